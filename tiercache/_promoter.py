"""The promoter: copies hits into lower tiers behind the caller, one worker thread a root chain.

What it has not done yet is bounded, and may be lost: a promotion is only ever a copy.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiercache._bridge import new_future
from tiercache._log import logger
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Promoter"]

_MAX_ENTRIES = 16_384
_MAX_BYTES = 64 * 2**20
_IDLE_SECONDS = 5.0  # a worker without work ends after this long, so that forgotten chains leave no thread
_EXIT_SECONDS = 1.0


class Promoter:
    """A bounded queue and the daemon thread that works it off. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)
        _promoters.add(self)

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], None], int, int]] = deque()
        self._entries = self._bytes = 0
        self._unfinished = 0
        self._thread: threading.Thread | None = None
        self._idle: list[Future[Any]] = []

    def submit(self, job: Callable[[], None], *, entries: int, size: int) -> bool:
        """Queue ``job``, which copies that many entries of that many bytes; false when there is no room."""
        with self._changed:
            full = self._entries + entries > _MAX_ENTRIES or self._bytes + size > _MAX_BYTES
            if full and self._jobs:  # one that is too large by itself is still done, alone
                return False
            if self._thread is None and not self._start():
                return False
            self._jobs.append((job, entries, size))
            self._entries += entries
            self._bytes += size
            self._unfinished += 1
            self._changed.notify()
            return True

    def _start(self) -> bool:
        thread = threading.Thread(target=self._work, name="tiercache-promoter", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out: the read goes on
            return False
        self._thread = thread
        return True

    def idle(self) -> Future[Any]:
        """Ends when nothing is queued or going on."""
        future = new_future()
        with self._changed:
            if self._unfinished and threading.current_thread() is not self._thread:
                self._idle.append(future)
            else:
                future.set_result(None)
        return future

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._jobs and not self._changed.wait_for(lambda: self._jobs, _IDLE_SECONDS):
                    self._thread = None
                    return
                job, entries, size = self._jobs.popleft()
                self._entries -= entries
                self._bytes -= size
            try:
                job()
            except BaseException:  # noqa: BLE001 - the worker outlives whatever a job did, or `flush` hangs
                logger().exception("a promotion failed")
            del job  # it holds entries, and the next one may be long in coming
            with self._changed:
                self._unfinished -= 1
                idle = []
                if not self._unfinished:
                    idle, self._idle = self._idle, []
            for future in idle:
                future.set_result(None)


_promoters: weakref.WeakSet[Promoter] = weakref.WeakSet()


def _drain() -> None:
    """At interpreter exit: give what is queued a moment. Daemon threads still run then."""
    deadline = time.monotonic() + _EXIT_SECONDS
    for future in [promoter.idle() for promoter in list(_promoters)]:
        try:
            future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return


atexit.register(_drain)
