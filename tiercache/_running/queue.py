"""Work behind the callers: a bounded queue, and daemon threads that are started when there is work.

What has not been done yet is bounded, and may be lost: whoever queues it can do without it.
"""

from __future__ import annotations

import atexit
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tiercache._log import logger
from tiercache._running.futures import new_future
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["WorkQueue"]

_IDLE_SECONDS = 5.0  # a worker without work ends after this long, so that forgotten chains leave no thread
_EXIT_SECONDS = 1.0


class WorkQueue:
    """Jobs of one kind, for at most ``threads`` threads at a time. ``max_entries`` and ``max_bytes`` bound
    what waits. Thread-safe.

    With a ``linger`` (seconds; for one thread) a worker waits for so long, unless somebody waits for it,
    before it does what has come by then. A job that has a ``join(job)`` is asked with the next one, under the
    lock: true if it does that one's work too.
    """

    def __init__(
        self, kind: str, *, threads: int, max_entries: int, max_bytes: int, linger: float = 0.0
    ) -> None:
        self._kind = kind
        self._most_threads = threads
        self._linger = linger
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.after_fork()
        reset_after_fork(self)
        _queues.add(self)

    def after_fork(self) -> None:
        self._changed = threading.Condition()
        self._jobs: deque[tuple[Callable[[], object], int, int]] = deque()
        self._entries = self._bytes = 0
        self._unfinished = 0
        self._threads: set[threading.Thread] = set()
        self._resting = 0  # of them, those that wait for a job
        self._lingering = False
        self._idle: list[Future[Any]] = []

    def submit(self, job: Callable[[], object], *, entries: int, size: int = 0) -> bool:
        """Queue ``job``, which is about that many entries of that many bytes; false when there is no room."""
        with self._changed:
            full = self._entries + entries > self._max_entries or self._bytes + size > self._max_bytes
            # One that is too large by itself is still done: alone, or with the little that lingers.
            if full and self._jobs and not (self._lingering and not self._is_much()):
                return False
            if len(self._jobs) >= self._resting and len(self._threads) < self._most_threads:
                self._start()
            if not self._threads:
                return False
            self._jobs.append((job, entries, size))
            self._entries += entries
            self._bytes += size
            self._unfinished += 1
            # The others look for a job before they rest; one that lingers is told in time by `idle`.
            if self._resting or (self._lingering and self._is_much()):
                self._changed.notify()
            return True

    def _start(self) -> None:
        thread = threading.Thread(target=self._work, name=f"tiercache-{self._kind}", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is on its way out: the caller goes on
            return
        self._threads.add(thread)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or going on."""
        return self._unfinished > 0

    def idle(self) -> Future[Any]:
        """Ends when nothing is queued or going on; at once for a job that asks."""
        future = new_future()
        with self._changed:
            if self._unfinished and threading.current_thread() not in self._threads:
                self._idle.append(future)
                if self._lingering:
                    self._changed.notify()
            else:
                future.set_result(None)
        return future

    def _work(self) -> None:
        changed = self._changed  # the one that is waited at stays the one that is held, whatever forks
        due = 0  # jobs that have waited for long enough
        while True:
            with changed:
                if not due:
                    if not self._rest(changed):
                        self._threads.discard(threading.current_thread())
                        return
                    due = len(self._jobs) if self._linger else 1
                job = self._take()
                done = 1
                while done < due and _join(job, self._jobs[0][0]):
                    self._take()
                    done += 1
                due -= done
            try:
                job()
            except BaseException:  # noqa: BLE001 - the worker outlives whatever a job did, or `flush` hangs
                logger().exception("a %s failed", self._kind)
            del job  # it holds entries, and the next one may be long in coming
            with changed:
                self._unfinished -= done
                idle = []
                if not self._unfinished:
                    idle, self._idle = self._idle, []
            for future in idle:
                future.set_result(None)

    def _rest(self, changed: threading.Condition) -> bool:
        """Wait for a job; false if none comes. With the lock held."""
        self._resting += 1
        woken = bool(self._jobs or changed.wait_for(lambda: self._jobs, _IDLE_SECONDS))
        self._resting -= 1
        if woken and self._linger:
            self._lingering = True
            changed.wait_for(self._is_hurried, self._linger)
            self._lingering = False
        return woken

    def _is_hurried(self) -> bool:
        return bool(self._idle) or self._is_much()

    def _is_much(self) -> bool:
        """Whether half of what may wait does."""
        return 2 * self._entries > self._max_entries or 2 * self._bytes > self._max_bytes

    def _take(self) -> Callable[[], object]:
        """The next job. With the lock held, and where there is one."""
        job, entries, size = self._jobs.popleft()
        self._entries -= entries
        self._bytes -= size
        return job


def _join(job: Callable[[], object], other: Callable[[], object]) -> bool:
    join = getattr(job, "join", None)
    try:
        return join is not None and join(other)
    except Exception:  # noqa: BLE001 - it may compare what tiers of others handed out; done twice is no harm
        return False


_queues: weakref.WeakSet[WorkQueue] = weakref.WeakSet()


def _drain() -> None:
    """At interpreter exit: give what is queued a moment. Daemon threads still run then."""
    deadline = time.monotonic() + _EXIT_SECONDS
    # Not of all: where nothing was ever queued, a future would be the first, and its module takes its time.
    for future in [queue.idle() for queue in list(_queues) if queue.busy]:
        try:
            future.result(max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            return


atexit.register(_drain)
