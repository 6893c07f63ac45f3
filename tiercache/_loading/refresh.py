"""Refreshes: loads that run behind the callers, for values that are served meanwhile.

A refresh of a blocking caller runs on one of at most four worker threads a root chain, one of an async caller
as a task on its loop. Until it runs nobody waits for it: it then leads a flight as any load does, for
those of its keys that nobody else loads. (Were it a flight from the beginning, others would join one that
is queued, and four loaders that wait for queued ones would wait for ever.)
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from tiercache._chain.answers import unnoted_in
from tiercache._chain.leases import leasing_nothing
from tiercache._consistency.flights import Flight, aboard_nothing, loading
from tiercache._consistency.operations import holding_nothing
from tiercache._consistency.rings import Awaited, Waiting, rings
from tiercache._running.bridge import Runtime, drive
from tiercache._running.event_loops import running_loop
from tiercache._running.futures import new_future
from tiercache._running.owners import leavings
from tiercache._running.queue import WorkQueue
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["Outcome", "Refresh", "Refresher"]

_WORKERS = 4
#: Keys whose refresh may be waiting for its turn. Beyond it the old values are served all the same.
_MAX_KEYS = 10_000
_WARN_EVERY = 60.0  # seconds between two warnings
_LOOK_AGAIN = 0.1  # seconds between two looks at whether what is waited for can still end


@dataclass(slots=True)
class Outcome:
    """What came of a refresh: the values, of all the ``keys`` that it loaded; or the loader's error."""

    keys: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None
    #: Whether there was no room for it.
    dropped: bool = False


class Refresh(Awaited):
    """One refresh of ``keys``, from when it was asked for. ``ticket`` is from then: what is written later is
    newer than what it loads. ``over`` is called once, when it has ended or never will."""

    __slots__ = ("_lock", "_over", "ended", "keys", "led", "outcome", "over", "ticket")

    def __init__(self, keys: Sequence[str], ticket: Any, over: Callable[[Refresh], None]) -> None:
        self.keys = keys
        self.ticket = ticket
        self.outcome = Outcome()
        self.ended: Future[Outcome] = new_future()
        self.led: Sequence[Flight] = ()
        self.loop = None
        self.owner = None
        self.waits_for = []
        #: Whether it has ended, or is not waited for any more.
        self.over = False
        self._over = over
        self._lock = threading.Lock()

    def lead(self, flights: Sequence[Flight]) -> None:
        """It has begun, and ends with ``flights``."""
        self.led = flights
        self.waits_for = [*flights]

    def end(self) -> None:
        """It is over. Only the first call counts."""
        if leavings.take(self.end):
            return
        with self._lock:
            if self.over:
                return
            self.over = True
        for flight in self.led:  # there is another value: who loads it now need not wait for these
            flight.of.give_up(flight)
        self._over(self)
        self.ended.set_result(self.outcome)


class Refresher:
    """The refreshes of one root chain. Thread-safe."""

    def __init__(self) -> None:
        self._queue = WorkQueue("refresh", threads=_WORKERS, max_entries=_MAX_KEYS, max_bytes=1)
        self._next_warning = float("-inf")
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        #: Those that run as tasks (an event loop itself keeps no task alive), by their loops: whoever is
        #: served an old value looks at each loop, and must not look at thousands of tasks.
        self._tasks: dict[asyncio.AbstractEventLoop, dict[Refresh, asyncio.Task[None]]] = {}
        self._task_keys = 0
        #: Those for the threads.
        self._jobs: dict[Refresh, None] = {}
        #: Loads that go on behind callers who were cancelled, in threads of their own, until those end.
        self._left: dict[Flight, Future[Any]] = {}
        #: Of those, the ones that have a thread.
        self._at_work: list[Awaited] = []

    def start(
        self, runtime: Runtime, refresh: Refresh, run: Callable[[Runtime], Coroutine[Any, Any, None]]
    ) -> bool:
        """Have ``run(runtime)`` run behind the caller, for ``refresh``; false where there is no room."""
        # The caller's context, as it would be for the loader if the caller waited for it; but nothing in it
        # that says what the caller itself is at.
        context = contextvars.copy_context()
        for forget in (unnoted_in, holding_nothing, aboard_nothing, leasing_nothing):
            context.run(forget)
        loop = None if runtime.blocking else running_loop()
        if loop is None:
            refresh.waits_for = self._at_work  # as long as it is queued
            self._jobs[refresh] = None
            job = partial(context.run, self._work, runtime, refresh, run)
            if self._queue.submit(job, entries=len(refresh.keys)):
                return True
            self._jobs.pop(refresh, None)
            return False
        if self._task_keys >= _MAX_KEYS:
            return False
        refresh.loop = loop
        task = loop.create_task(run(runtime), context=context)
        with self._lock:
            self._tasks.setdefault(loop, {})[refresh] = task
            self._task_keys += len(refresh.keys)
        task.add_done_callback(partial(self._done, refresh))
        return True

    def went_on(self, flight: Flight, ended: Future[Any]) -> None:
        """The load of ``flight`` goes on behind a caller who was cancelled, until ``ended``: it is waited for
        like a refresh."""
        self._left[flight] = ended
        ended.add_done_callback(lambda _ended: self._left.pop(flight, None))

    def _work(
        self,
        runtime: Runtime,
        refresh: Refresh,
        run: Callable[[Runtime], Coroutine[Any, Any, None]],
    ) -> None:
        refresh.waits_for = []
        at_work = self._at_work
        at_work.append(refresh)
        try:
            drive(run(runtime))
        finally:
            at_work.remove(refresh)
            self._jobs.pop(refresh, None)
            refresh.end()

    def _done(self, refresh: Refresh, task: asyncio.Task[None]) -> None:
        self._forget(refresh, task)
        refresh.end()  # cancelled before it had begun

    def _forget(self, refresh: Refresh, task: asyncio.Task[None]) -> None:
        loop = task.get_loop()
        with self._lock:
            tasks = self._tasks.get(loop, {})
            if tasks.pop(refresh, None) is not None:
                self._task_keys -= len(refresh.keys)
                if not tasks:
                    del self._tasks[loop]

    def may_warn(self, now: float) -> bool:
        """Whether it is time for another warning about loaders that fail (``now`` is monotonic)."""
        if now < self._next_warning:
            return False
        self._next_warning = now + _WARN_EVERY
        return True

    def sweep(self) -> None:
        """Give up the tasks whose loop does not run any more: nobody can say whether it ever will."""
        for loop, tasks in tuple(self._tasks.items()):
            if loop.is_running():
                continue
            for refresh, task in tuple(tasks.items()):
                refresh.end()
                if loop.is_closed():
                    self._forget(refresh, task)
                    with suppress(Exception):  # whatever the loader does on its way out
                        task.get_coro().close()  # what it holds is free now, and not some day
                    leavings.settle()

    def _under_way(self) -> list[tuple[Awaited, Future[Any]]]:
        """All that is, each with the future that ends with it."""
        refreshes = [*self._jobs, *(one for tasks in tuple(self._tasks.values()) for one in tuple(tasks))]
        return [*((one, one.ended) for one in refreshes), *tuple(self._left.items())]

    async def flush(self, runtime: Runtime) -> None:
        """Wait for all refreshes, and for loads whose callers were cancelled; but not for one that waits for
        this, or for an event loop whose thread this or another such call holds up, nor for one that is queued
        behind it."""
        waiting = Waiting(loading(), running_loop() if runtime.blocking else None)
        for one, ended in self._under_way():
            while not ended.done() and (one.loop is None or one.loop.is_running()):
                with rings.lock:
                    if waiting.is_part_of(one) or waiting.holds_up(one):
                        break
                    waiting.begin([one])
                try:
                    await runtime.ended(ended, seconds=_LOOK_AGAIN)
                finally:
                    waiting.end()
        self.sweep()
