"""Sharing: what a cache counts is written to a file behind its callers, for `tiercache stats`.

One daemon thread a process, for all of its caches, looks every few seconds whether something was counted
since, and writes it. A cache that is closed, or alive at the interpreter's exit, writes its last snapshot
then. Nothing of it ever raises.

Rejected: the promoter, and the disk's upkeep. What memory answers wakes neither of them, by design, and would
never be seen.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol
from uuid import uuid4

from tiercache._counted import Record, less, never_used, plain
from tiercache._digests import digests
from tiercache._log import logger
from tiercache._processes import born, place
from tiercache.forks import reset_after_fork
from tiercache.popular import KeyCounter
from tiercache.shared_stats import StatsFile
from tiercache.stats import CacheStats, Histograms

__all__ = ["Publisher", "keep", "leave", "look_at"]

SECONDS = 5.0  # between two looks
#: How long a write waits for those of other processes, in seconds: behind the caller, in `close`, and at the
#: interpreter's exit, for all caches together.
_PATIENCE = 1.0
_PATIENCE_AT_THE_END = 0.3
_PATIENCE_AT_EXIT = 1.0


class Counting(Protocol):
    """What is looked at: the stack of a cache."""

    def stats(self, *, asking: bool = True) -> CacheStats: ...

    def histograms(self) -> Histograms: ...

    def key_counters(self) -> list[tuple[tuple[str, ...], KeyCounter]]: ...

    def own_counters(self) -> list[dict[str, int]]: ...


class Looked(Protocol):
    """What the thread looks at: a `Publisher`, or the books of a cache."""

    def publish(self, seconds: float) -> None:
        """Write what is new, waiting so long at most. Raises nothing."""
        ...

    def end_within(self, seconds: float) -> None:
        """The same at the interpreter's exit."""
        ...

    def rebase(self) -> None:
        """In a forked child, before any other code: leave out what was counted until now."""
        ...


def keep(looked: Looked) -> None:
    """Have it end at the interpreter's exit, and begin anew in a forked child."""
    _all.add(looked)


def look_at(looked: Looked) -> None:
    """Have the thread look at it every few seconds from now on."""
    _writer.add(looked)


def leave(looked: Looked) -> None:
    """Look no more, and not at the end either."""
    _all.discard(looked)
    _writer.discard(looked)


class Publisher:
    """Writes what ``stack`` (held weakly), of the cache called ``cache``, has counted to ``file``.

    ``insisted``: a user asked for it, and wants to hear why it does not work. Thread-safe; in a forked child
    it is a row of its own, of what was counted since the fork.
    """

    def __init__(self, file: StatsFile, cache: str, stack: Counting, *, insisted: bool) -> None:
        self.file = file
        self.call(cache)
        self._stack = weakref.ref(stack)
        self._insisted = insisted
        self._told = False
        self._over = False
        #: What is left out, in a forked child: what was counted before it.
        self._before: dict[str, Any] | None = None
        self.after_fork()
        reset_after_fork(self)
        _all.add(self)

    def call(self, cache: str) -> None:
        """Show what is counted from now on as that of ``cache``: its name, where a file has several."""
        #: What its rows in the file are called.
        self.cache = cache.encode("utf-8", "backslashreplace").decode()[:200]  # no surrogates in SQLite

    def after_fork(self) -> None:
        # Re-entrant: the garbage collector may run somebody's destructor inside, which closes this cache.
        self._lock = threading.RLock()
        self._token = uuid4().hex
        self._pid = os.getpid()
        self._started = time.time()
        self._written: Mapping[str, Any] | None = None
        #: Whether the thread knows of it; read without a lock, by calls that memory did not answer.
        self.awake = False
        self._if_dropped: weakref.finalize[..., Any] | None = None

    def rebase(self) -> None:
        """Leave out what was counted until now, which the parent tells. In a child, before any other code: no
        tier is asked, for a thread of the parent may hold its lock for ever."""
        stack = self._stack()
        self._before = None if stack is None else plain(stack.stats(asking=False), stack.histograms())

    def _leave_out_the_tiers(self) -> None:
        """The same for what the tiers count themselves: nothing since the fork, before the first call that
        memory did not answer."""
        stack = self._stack()
        if self._before is not None and stack is not None:
            for tier, own in zip(self._before["tiers"], stack.own_counters(), strict=True):
                for name, count in own.items():
                    tier[name] += count

    def wake(self) -> None:
        """Have the thread look from now on. Idempotent; nothing once it is over."""
        with self._lock:  # two first calls may come at once
            if self.awake:
                return
            self.awake = True
            self._leave_out_the_tiers()
        # Not under the lock: here the garbage collector may run a destructor that closes another cache, while
        # another thread does so the other way round.
        self._if_dropped = weakref.finalize(self, _writer.forget, self.file, self._token, self._pid)
        self._if_dropped.atexit = False
        _writer.add(self)
        if self._over:  # closed meanwhile, when there was nothing to leave yet
            self._leave()

    def stop(self) -> None:
        """Write no more, and not at the end either."""
        self._over = True
        self._leave()

    def end(self) -> None:
        """Write the last snapshot. Idempotent."""
        self.publish(_PATIENCE_AT_THE_END, last=True)
        self._leave()

    def end_within(self, seconds: float) -> None:
        """The same at the interpreter's exit, where a look of the thread is not waited for longer."""
        if self._lock.acquire(timeout=seconds):
            try:
                self.publish(min(seconds, _PATIENCE_AT_THE_END), last=True)
            finally:
                self._lock.release()

    def _leave(self) -> None:
        """From here on nothing touches the file: its directory may be removed."""
        if self._if_dropped is not None:
            self._if_dropped.detach()
        _writer.discard(self)

    def publish(self, seconds: float, *, last: bool = False) -> None:
        """Write a snapshot if something was counted since the one before."""
        try:
            with self._lock:
                if not self._over:
                    self._over = last
                    self._publish(seconds, last=last)
        except Exception as error:  # noqa: BLE001 - statistics never break a call
            self._failed(error)

    def _publish(self, seconds: float, *, last: bool) -> None:
        stack = self._stack()
        if stack is None:
            return
        # A child that does no more than end asks no tier either.
        counted = plain(stack.stats(asking=self.awake), stack.histograms())
        if self._before is not None:
            counted = less(counted, self._before)
        if counted == self._written and not last:
            return
        if self._written is None and never_used(counted):
            return
        now = time.time()
        self.file.write(
            Record(
                self._token, self._pid, place(), born(self._pid) or "",
                self.cache, self._started, now, now if last else None,
                counted | {"popular": digests(stack.key_counters())},
            ),
            seconds=seconds,
        )  # fmt: skip
        self._written = counted

    def _failed(self, error: Exception) -> None:
        if self._insisted and not self._told:
            self._told = True
            logger().warning("statistics are not shared: %s: %s", self.file.path, error)
        else:
            logger().debug("statistics are not shared: %s: %s", self.file.path, error)


class _Writer:
    """The thread. It exists while there are caches that it has to look at."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._sharing: weakref.WeakSet[Looked] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._forgotten: deque[tuple[StatsFile, str]] = deque()

    def add(self, sharing: Looked) -> None:
        with self._changed:
            self._sharing.add(sharing)
            if self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="tiercache-stats", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends: closing does the work
                self._thread = None

    def discard(self, sharing: Looked) -> None:
        with self._changed:
            self._sharing.discard(sharing)
            if not self._sharing:
                self._changed.notify_all()

    def forget(self, file: StatsFile, token: str, pid: int) -> None:
        """A cache was dropped without being closed. Called by the garbage collector: only an append."""
        if os.getpid() == pid:
            self._forgotten.append((file, token))

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: not self._sharing, SECONDS)
                everyone = list(self._sharing)
                if not everyone and not self._forgotten:
                    self._thread = None
                    return
            self._settle()
            while everyone:
                everyone.pop().publish(_PATIENCE)

    def _settle(self) -> None:
        while True:
            try:
                file, token = self._forgotten.popleft()
            except IndexError:
                return
            with suppress(Exception):  # as in `publish`
                file.end(token, seconds=_PATIENCE)

    def end(self) -> None:
        """At the interpreter's exit: the last snapshots of what nobody closed."""
        until = monotonic() + _PATIENCE_AT_EXIT
        for sharing in list(_all):  # also those that have only hits in memory since a fork
            left = until - monotonic()
            if left <= 0:
                return
            sharing.end_within(left)


def _rebase() -> None:
    for sharing in list(_all):
        with suppress(Exception):  # the child has other things to do
            sharing.rebase()


_all: weakref.WeakSet[Looked] = weakref.WeakSet()
_writer = _Writer()
atexit.register(_writer.end)
if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    # After those of `tiercache.forks`, which was imported before: then all locks are new ones.
    os.register_at_fork(after_in_child=_rebase)
