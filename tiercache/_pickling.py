"""Pickling: a cache that was built from a configuration is built again, from the same one, where it is
unpickled.

What travels is where the configuration is: the path of its file, or the mapping as it was given, with its
``${VAR}`` unexpanded. No entries, no connections, and nothing that a variable held: the other process reads
its own. Unpickling calls `restore` with plain data and, for a view that has a codec of its own, that codec.

Of one configuration a process has one such chain, which lives until it is closed. A chain that is still
there, in the process that made it or in one that was forked from that, is not built again.

What a cache stores is never a pickle; this is about the arguments of a program's own workers.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

from tiercache._staleness import Staleness
from tiercache.errors import CacheClosed
from tiercache.forks import reset_after_fork
from tiercache.protocols import Codec

__all__ = ["Carried", "Origin", "ViewOf", "reduced", "restore"]

#: A mapping as JSON, and the folder that its relative paths begin at.
Mapped: TypeAlias = "tuple[str, str]"
#: The path of a file, or a mapping.
Recipe: TypeAlias = "str | Mapped"


class Cache(Protocol):
    """What of a cache is needed here; its class also has ``from_config``."""

    @property
    def codec(self) -> Any: ...
    def view(self, namespace: str, *, ttl: Any) -> Any: ...
    def with_codec(self, codec: Any) -> Any: ...
    def stats(self) -> Any: ...


class ViewOf(NamedTuple):
    """What a view has of its own."""

    path: tuple[str, ...]
    codec: Codec[Any] | None
    ttl: float | None
    staleness: Staleness


class Carried(dict[str, Any]):
    """The mapping of a configuration that was carried to another process, with the ``folder`` where its
    relative paths begin."""

    def __init__(self, content: Mapping[str, Any], folder: Path | None) -> None:
        super().__init__(content)
        self.folder = folder


class Origin:
    """Where ``cache`` came from. ``recipe`` is ``None`` where plain data cannot tell; ``reason`` says why."""

    def __init__(self, cache: Cache, recipe: Recipe | None, reason: str = "") -> None:
        self.kind: Any = type(cache)
        self.codec = cache.codec
        self.recipe = recipe
        self.reason = reason
        #: The name of this very chain.
        self.token = uuid4().hex
        _chains.remember(self.token, cache)

    @classmethod
    def of(cls, source: str | os.PathLike[str] | Mapping[str, Any], cache: Cache) -> Self:
        """That of ``cache``, which was just built from ``source``."""
        try:
            return cls(cache, _recipe(source))
        except TypeError as error:
            return cls(cache, None, str(error))


def _recipe(source: str | os.PathLike[str] | Mapping[str, Any]) -> Recipe:
    if not isinstance(source, Mapping):
        return os.path.abspath(Path(source).expanduser())  # noqa: PTH100 - as the folder is written, links and all
    folder = source.folder if isinstance(source, Carried) else _here()
    return json.dumps(_plain(source, "")), "" if folder is None else str(folder)


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed: nothing can begin at it
        return None


def _plain(value: Any, path: str) -> Any:
    """``value`` of the option at ``path``, as JSON has it. Raises `TypeError` for what is no plain data."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{path or 'it'} has a key that is no text")
        return {key: _plain(one, f"{path}.{key}" if path else key) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{path}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value), path)
    raise TypeError(f"{path} is a {type(value).__name__}, which is no plain data")


def reduced(origin: Origin | None, view: ViewOf | None) -> tuple[Any, ...]:
    """What `pickle` keeps of a chain of that ``origin``, or of a ``view`` of it. Raises `TypeError` for one
    that cannot be built again."""
    if origin is None:
        raise TypeError(
            "this cache was made in code and cannot be pickled: its tiers hold connections and threads. Make "
            "it in the worker (at the top of a module, or in the pool's initializer), or use "
            "TieredCache.from_config(...), whose caches are built again where they are unpickled"
        )
    if origin.recipe is None:
        raise TypeError(
            f"this cache cannot be pickled, for its configuration cannot: {origin.reason}; put it into a "
            "file, or make the cache in the worker"
        )
    own = None
    if view is not None:
        # The chain's own codec is in the configuration; it may hold keys.
        inherits = view.codec is origin.codec
        codec = None if inherits else view.codec
        own = (view.path[1:], inherits, codec, view.ttl, asdict(view.staleness))
    return restore, (origin.kind, origin.recipe, origin.token, own)


def restore(kind: Any, recipe: Recipe, token: str, view: tuple[Any, ...] | None) -> Any:
    """The chain that ``token`` names or ``recipe`` describes, or a ``view`` of it. Raises what
    ``from_config`` raises."""
    cache = _chains.find(kind, recipe, token)
    if view is None:
        return cache
    names, inherits, codec, ttl, staleness = view
    if inherits:
        codec = cache.codec
    for name in names:
        cache = cache.view(name, ttl=ttl)
    return cache.with_codec(codec).with_staleness(Staleness(**staleness))


class _Chains:
    """The chains of this process that were built from configurations. Thread-safe."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[str, Cache] = WeakValueDictionary()
        #: Kept alive: a pool unpickles its arguments for each task, and nobody holds them in between.
        self._rebuilt: dict[tuple[Any, Recipe], Cache] = {}
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a tier may unpickle something while it is made

    def remember(self, token: str, cache: Cache) -> None:
        """That ``cache`` goes by ``token``, as long as it lives."""
        with self._lock:
            self._made[token] = cache

    def find(self, kind: Any, recipe: Recipe, token: str) -> Any:
        """The chain itself, if it is still open here; else the one that was built here from ``recipe``."""
        with self._lock:
            for cache in (self._made.get(token), self._rebuilt.get((kind, recipe))):
                if cache is not None and _is_open(cache):
                    return cache
            source = recipe if isinstance(recipe, str) else _carried(recipe)
            cache = self._rebuilt[kind, recipe] = self._made[token] = kind.from_config(source)
            return cache


def _carried(mapped: Mapped) -> Carried:
    text, folder = mapped
    return Carried(json.loads(text), Path(folder) if folder else None)


def _is_open(cache: Cache) -> bool:
    try:
        cache.stats()
    except CacheClosed:
        return False
    return True


_chains = _Chains()
