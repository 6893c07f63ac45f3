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

from tiercache._answers import unnoted_in
from tiercache._bridge import Runtime, drive, new_future, running_loop
from tiercache._epochs import holding_nothing
from tiercache._flights import Flight, aboard_nothing, is_aboard
from tiercache._leases import leasing_nothing
from tiercache._queue import WorkQueue
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["Outcome", "Refresh", "Refresher", "ended_within"]

_WORKERS = 4
#: Keys whose refresh may be waiting for its turn. Beyond it the old values are served all the same.
_MAX_KEYS = 10_000
_WARN_EVERY = 60.0  # seconds between two warnings
_LOOK_AGAIN = 0.1  # seconds between two looks at whether the loop of a task still runs


@dataclass(slots=True)
class Outcome:
    """What came of a refresh: the values, of all the ``keys`` that it loaded; or the loader's error."""

    keys: set[str] = field(default_factory=set)
    values: dict[str, Any] = field(default_factory=dict)
    error: Exception | None = None


class Refresh:
    """One refresh of ``keys``, from when it was asked for. ``ticket`` is from then: what is written later is
    newer than what it loads. ``over`` is called once, when it has ended or never will."""

    def __init__(self, keys: Sequence[str], ticket: Any, over: Callable[[Refresh], None]) -> None:
        self.keys = keys
        self.ticket = ticket
        self.outcome = Outcome()
        self.ended: Future[Outcome] = new_future()
        self.led: list[Flight] = []
        self._over = over
        self._lock = threading.Lock()

    def end(self) -> None:
        """It is over. Only the first call counts."""
        with self._lock:
            if self.ended.done():
                return
            self.ended.set_result(self.outcome)
        for flight in self.led:
            flight.of.end(flight)
        self._over(self)


@dataclass(slots=True, eq=False)
class _Task:
    loop: asyncio.AbstractEventLoop
    refresh: Refresh
    task: asyncio.Task[None] | None = None


class Refresher:
    """The refreshes of one root chain. Thread-safe."""

    def __init__(self) -> None:
        self._queue = WorkQueue("refresh", threads=_WORKERS, max_entries=_MAX_KEYS, max_bytes=1)
        self._next_warning = float("-inf")
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._tasks: set[_Task] = set()

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
            job = partial(context.run, self._work, runtime, refresh, run)
            return self._queue.submit(job, entries=len(refresh.keys))
        if sum(len(other.refresh.keys) for other in tuple(self._tasks)) >= _MAX_KEYS:
            return False
        running = _Task(loop, refresh)
        self._tasks.add(running)  # an event loop itself keeps no task alive
        running.task = loop.create_task(run(runtime), context=context)
        running.task.add_done_callback(partial(self._done, running))
        return True

    @staticmethod
    def _work(
        runtime: Runtime, refresh: Refresh, run: Callable[[Runtime], Coroutine[Any, Any, None]]
    ) -> None:
        try:
            drive(run(runtime))
        finally:
            refresh.end()

    def _done(self, running: _Task, _task: asyncio.Task[None]) -> None:
        self._tasks.discard(running)
        running.refresh.end()  # cancelled before it had begun

    def may_warn(self, now: float) -> bool:
        """Whether it is time for another warning about loaders that fail (``now`` is monotonic)."""
        if now < self._next_warning:
            return False
        self._next_warning = now + _WARN_EVERY
        return True

    def sweep(self) -> None:
        """Give up the tasks whose loop does not run any more: nobody can say whether it ever will."""
        for running in tuple(self._tasks):
            if not running.loop.is_running():
                running.refresh.end()
                for flight in running.refresh.led:
                    flight.of.end(flight)  # there is another value: who loads it now need not wait for this
                if running.loop.is_closed():
                    self._tasks.discard(running)
                    if running.task is not None:
                        with suppress(Exception):  # whatever the loader does on its way out
                            running.task.get_coro().close()  # what it holds is free now, and not some day

    async def flush(self, runtime: Runtime) -> None:
        """Wait for all refreshes; but not for one that waits for this, or whose loop this call holds up."""
        await runtime.wait(self._queue.idle())
        here = running_loop()
        for running in tuple(self._tasks):
            if (runtime.blocking and running.loop is here) or is_aboard(running.refresh.led):
                continue
            while running.loop.is_running() and not running.refresh.ended.done():
                await ended_within(runtime, running.refresh.ended, _LOOK_AGAIN)
        self.sweep()


async def ended_within(runtime: Runtime, future: Future[Any], seconds: float) -> bool:
    """Wait for ``future``, at most so long; whether it has ended. Does not raise what it ended with."""
    if seconds > 0 and not future.done():
        if runtime.blocking:
            from concurrent.futures import wait

            wait([future], seconds)
        else:
            import asyncio

            wrapped = asyncio.wrap_future(future)
            try:
                await asyncio.wait([wrapped], timeout=seconds)
            finally:
                wrapped.cancel()  # no more than the wrapper: see `new_future`
                if not wrapped.cancelled() and wrapped.done():
                    wrapped.exception()  # seen, or asyncio reports it as never retrieved
    return future.done()
