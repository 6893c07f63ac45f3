"""Whose statistics are exported: caches of this process, and files in which several processes share theirs,
each under a name.

A cache is held weakly, and gone once it is closed or dropped. The name is the user's: a namespace may be a
person's, and there may be thousands of them.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from os import PathLike
from time import monotonic
from typing import Any, Protocol
from weakref import ref

from tiercache._chain.stack import Stack
from tiercache._log import logger
from tiercache._paths import absolute
from tiercache.chain import TieredCache
from tiercache.errors import ConfigError
from tiercache.forks import reset_after_fork
from tiercache.observability._ledgers import LedgerReader, Said
from tiercache.shared_stats import StatsFile, Unreadable, summed

__all__ = ["Sources", "label", "labels", "stack_of"]

#: How long a scrape waits for a file that another process writes, or for ledgers, in seconds; then it has
#: what it had before.
_PATIENCE = 0.2


def stack_of(cache: object) -> Stack:
    """What all views of ``cache`` share: it may be a `TieredCache`, or what stands on one and has it as its
    ``cache``, as `LLMCache` and `CachedEmbeddings` do. Raises `ConfigError`."""
    found = cache if isinstance(cache, TieredCache) else getattr(cache, "cache", None)
    if not isinstance(found, TieredCache):
        raise ConfigError(f"a {type(cache).__name__} is no TieredCache, and has none as its attribute cache")
    return found._stack  # noqa: SLF001 - it is of no use to those who write applications


class _Source(Protocol):
    @property
    def is_over(self) -> bool:
        """Whether there will be no more of it."""
        ...

    def read(self) -> Mapping[str, Any] | None:
        """The statistics, as `CacheStats.as_dict` has them; ``None`` once it is over."""
        ...

    @property
    def ledger(self) -> LedgerReader | None:
        """Who reads its ledger, if it has one."""
        ...


class _Cache:
    def __init__(self, stack: Stack) -> None:
        self._stack = ref(stack)
        self.ledger = None if stack.books is None else LedgerReader(stack)

    @property
    def is_over(self) -> bool:
        stack = self._stack()
        return stack is None or stack.closed

    def read(self) -> Mapping[str, Any] | None:
        stack = self._stack()
        return None if stack is None or stack.closed else stack.stats().as_dict()


class _File:
    is_over = False

    def __init__(self, file: StatsFile, ledger: LedgerReader | None) -> None:
        self._file = file
        self.ledger = ledger
        self._latest: Mapping[str, Any] = {"tiers": []}

    def read(self) -> Mapping[str, Any] | None:
        try:
            # All that is in it: the processes of long ago are not told apart by caches, and counters that
            # went back when one is folded into them would look like new ones.
            self._latest = summed(self._file.read(seconds=_PATIENCE))
        except Unreadable as error:
            logger().debug("statistics cannot be exported just now: %s", error)
        return self._latest


class Sources:
    """Caches and files, by name. Thread-safe."""

    def __init__(self) -> None:
        self._sources: dict[str, _Source] = {}
        self._complained: set[str] = set()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        # Re-entrant: the garbage collector may run somebody's destructor inside, which calls `remove`.
        self._lock = threading.RLock()

    def add(self, name: str, cache: object) -> Stack:
        """Have ``cache`` exported as ``name``. Raises `ConfigError` for a name that an open cache has."""
        stack = stack_of(cache)
        self._put(name, _Cache(stack))
        return stack

    def add_file(self, name: str, path: str | PathLike[str], ledger: object = None) -> None:
        """Have the sum of what processes share in the file ``path`` exported as ``name``; and what the ledger
        says that they share, read through the cache ``ledger`` of this process."""
        reader = None
        if ledger is not None:
            stack = stack_of(ledger)
            if stack.books is not None:
                reader = LedgerReader(stack)
                # In memory it is this process's alone: the next scrape may reach another one.
                reader = reader if reader.is_shared else None
        self._put(name, _File(StatsFile(absolute(path, "path", "")), reader))

    def remove(self, name: str) -> None:
        """Export it no longer; nothing if there is none of that name."""
        with self._lock:
            self._sources.pop(label(name), None)

    def read(self) -> list[tuple[str, Mapping[str, Any]]]:
        """What there is now, by name; what can not be read is left out."""
        with self._lock:
            sources = list(self._sources.items())
        found = []
        for name, source in sources:
            try:
                stats = source.read()
            except Exception as error:  # noqa: BLE001 - the others are to be exported all the same
                self._complain(name, error)
                continue
            if stats is not None:
                found.append((name, stats))
            else:
                with self._lock:
                    if self._sources.get(name) is source:
                        del self._sources[name]
        return found

    def statements(self) -> list[Said]:
        """What the ledgers say of today; where one cannot be read in time, what it said before."""
        with self._lock:
            readers = [(name, one.ledger) for name, one in self._sources.items() if one.ledger is not None]
        for name, reader in readers:
            try:
                reader.begin()
            except Exception as error:  # noqa: BLE001 - as above
                self._complain(name, error)
        until = monotonic() + _PATIENCE
        said = []
        for name, reader in readers:
            statement = reader.latest(max(0.0, until - monotonic()))
            if statement is not None:
                said.append(Said(name, statement, reader.budget))
        return said

    def _put(self, name: str, source: _Source) -> None:
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{name!r:.60} is no name for a cache; give it text")
        name = label(name)
        with self._lock:
            other = self._sources.get(name)
            if other is not None and not other.is_over:
                raise ConfigError(f"the name {name!r} is taken by another cache; choose another")
            self._sources[name] = source

    def _complain(self, name: str, error: Exception) -> None:
        if name not in self._complained:
            self._complained.add(name)
            logger().warning(
                "the statistics of %r cannot be exported: %s; said once", name, type(error).__name__
            )


def labels(names: Iterable[str]) -> list[str]:
    """Each of ``names`` of tiers as it is shown, no two the same."""
    shown: list[str] = []
    for name in names:
        one, number = label(name), 1
        while one in shown:
            number += 1
            one = f"{label(name)}-{number}"
        shown.append(one)
    return shown


def label(name: str) -> str:
    """``name`` without what is a secret or an address if it is a URL, and without what UTF-8 has not: one
    surrogate would be the end of every scrape."""
    scheme, mark, _ = name.partition("://")
    return ((scheme or "url") if mark else name).encode("utf-8", "backslashreplace").decode()
