"""Pickling: a cache that was built from a configuration is built again, from the same one, where it is
unpickled.

What travels is where the configuration is: the path of its file, or the mapping itself, with its
``${VAR}`` unexpanded and its relative paths made absolute. No entries, no connections, and nothing that a
variable held: the other process reads its own. Unpickling calls `restore` with plain data and, for a view
that has a codec of its own, that codec.

Of one configuration a process has one such chain. Until it is closed it lives as long as somebody holds it,
or it is among the last ones that were asked for. A chain that is still there, in the process that made it or
in one that was forked from that, is not built again.

What a cache stores is never a pickle; this is about the arguments of a program's own workers.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

from tiercache._loading.staleness import Staleness
from tiercache.errors import CacheClosed, ConfigError
from tiercache.forks import reset_after_fork
from tiercache.protocols import Codec

__all__ = ["Origin", "Recipe", "ViewOf", "reduced", "restore"]


#: So many chains that were built again are kept for the next task, whoever holds them.
_KEPT = 16


class Recipe(NamedTuple):
    """How to build a chain: ``text`` is the path of a file, or a mapping as JSON, in which relative paths
    were made absolute; ``name`` says which of its caches."""

    text: str
    name: str | None
    is_mapping: bool


#: What is built again, and how.
_Key: TypeAlias = tuple[Any, Recipe]


class Cache(Protocol):
    """What of a cache is needed here; its class also has ``from_config``."""

    @property
    def codec(self) -> Any: ...
    @property
    def views(self) -> Mapping[str, Any]: ...
    def view(self, namespace: str, *, ttl: Any, model: Any) -> Any: ...
    def with_codec(self, codec: Any) -> Any: ...
    def stats(self) -> Any: ...


class ViewOf(NamedTuple):
    """What a view has of its own."""

    path: tuple[str, ...]
    codec: Codec[Any] | None
    ttl: float | None
    staleness: Staleness
    model: str


class Origin:
    """Where ``cache`` came from.

    ``recipe`` is ``None`` where plain data cannot tell; ``reason`` says why. ``config`` is the one cache as
    JSON, ``codecs`` are those of the views that it names.
    """

    def __init__(
        self,
        cache: Cache,
        recipe: Recipe | None,
        *,
        config: str | None = None,
        reason: str = "",
        codecs: Mapping[str, Codec[Any] | None] = MappingProxyType({}),
    ) -> None:
        self.kind: Any = type(cache)
        self.codec = cache.codec
        self.recipe = recipe
        self.config = config
        self.reason = reason
        self.codecs = codecs
        #: The name of this very chain.
        self.token = uuid4().hex
        _chains.remember(self.token, cache)

    def whose(self, codec: Codec[Any] | None) -> str | bool:
        """`True` for the chain's own, the name of the view whose it is in the configuration, or `False`."""
        return codec is self.codec or next((name for name, one in self.codecs.items() if one is codec), False)

    def told(self) -> dict[str, Any]:
        """The configuration, as plain data, for the caller to keep. Raises `ConfigError`."""
        if self.config is None:
            raise ConfigError(f"config: the configuration is no plain data: {self.reason}")
        content: dict[str, Any] = json.loads(self.config)
        return content


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
        # The codecs of the configuration stay there; they may hold keys.
        whose = origin.whose(view.codec)
        codec = view.codec if whose is False else None
        own = (view.path[1:], whose, codec, view.ttl, asdict(view.staleness), view.model or None)
    return restore, (origin.kind, tuple(origin.recipe), origin.token, own)


def restore(kind: Any, recipe: tuple[Any, ...], token: str, view: tuple[Any, ...] | None) -> Any:
    """The chain that ``token`` names or ``recipe`` describes, or a ``view`` of it. Raises what
    ``from_config`` raises."""
    cache = _chains.find(kind, Recipe(*recipe), token)
    if view is None:
        return cache
    names, whose, codec, ttl, staleness, model = view
    if whose is not False:
        codec = cache.codec if whose is True else cache.views[whose].codec
    for name in names:
        cache = cache.view(name, ttl=ttl, model=model)
    return cache.with_codec(codec).with_staleness(Staleness(**staleness))


class _Chains:
    """The chains of this process that were built from configurations. Thread-safe."""

    def __init__(self) -> None:
        self._made: WeakValueDictionary[str, Cache] = WeakValueDictionary()
        self._rebuilt: WeakValueDictionary[_Key, Cache] = WeakValueDictionary()
        #: Those of them that were asked for last: a pool unpickles its arguments for each task, and nobody
        #: holds them in between. A process that is sent ever more configurations must come to an end of it.
        self._kept: OrderedDict[_Key, Cache] = OrderedDict()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.RLock()  # re-entrant: a collection of garbage inside may run any destructor
        self._building: WeakValueDictionary[_Key, threading.RLock] = WeakValueDictionary()

    def remember(self, token: str, cache: Cache) -> None:
        """That ``cache`` goes by ``token``, as long as it lives."""
        with self._lock:
            self._made[token] = cache

    def find(self, kind: Any, recipe: Recipe, token: str) -> Any:
        """The chain itself, if it is still open here; else the one that was built here from ``recipe``."""
        key = kind, recipe
        with self._lock:
            made, lock = self._made.get(token), self._building.get(key)
            if lock is None:  # re-entrant: a tier may unpickle something while it is made
                lock = self._building[key] = threading.RLock()
        if made is not None and _is_open(made):
            return made
        with lock:  # of each configuration one is built; those of others wait for none of it
            with self._lock:
                cache = self._rebuilt.get(key)
            if cache is None or not _is_open(cache):
                source: Any = json.loads(recipe.text) if recipe.is_mapping else recipe.text
                cache = kind.from_config(source, name=recipe.name)
            self._keep(key, cache)
            return cache

    def _keep(self, key: _Key, cache: Cache) -> None:
        let_go = None
        with self._lock:
            self._rebuilt[key] = self._kept[key] = cache
            self._kept.move_to_end(key)
            if len(self._kept) > _KEPT:
                _, let_go = self._kept.popitem(last=False)
        del let_go  # not under the lock: what holds its connections ends with it


def _is_open(cache: Cache) -> bool:
    try:
        cache.stats()
    except CacheClosed:
        return False
    return True


_chains = _Chains()
