"""Lanes: calls that must not hold up their caller, on worker threads or in tasks, each tier's apart.

A call that runs out of time cannot be stopped, only left behind. So a tier that hangs may hold the threads
of its own lane and no others; and while a call that was left behind is still running, its tier gets no
new one (`TierUnavailable`): what it writes late could not be told from what was written after it.
"""

from __future__ import annotations

import contextvars
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from tiercache._running.owners import leavings, thrown
from tiercache.errors import TierTimeout, TierUnavailable
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    # Imported where they are used: they are two thirds of what importing this package would cost.
    import asyncio
    from concurrent.futures import Future

__all__ = ["Lane"]

T = TypeVar("T")
Job: TypeAlias = "tuple[Future[Any], Callable[[], Any]]"

#: Calls of one tier that run at once; later ones wait for their turn.
WIDTH: Final = 32
#: Seconds that a cancelled task has for its cleaning up before it counts as left behind.
_GRACE: Final = 0.05


class _Threads:
    """Daemon threads, started when none is idle. Rejected: `ThreadPoolExecutor`, whose threads the
    interpreter waits for at its exit, for ever if a tier hangs.

    They have no bound of their own, since lanes have: so there is a thread for every call that a lane lets
    go, whatever fills the other lanes. Callers that wait for a flight wait elsewhere.
    """

    SPARE: Final = 32  # idle ones that stay

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._idle = 0  # threads that wait for work, less the work that is on its way to them

    def run(self, work: Callable[[], None]) -> None:
        """Call ``work``, which raises nothing. Raises `RuntimeError` if there can be no thread for it."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._work.put(work)
                return
        threading.Thread(target=self._loop, args=(work,), name="tiercache-tier", daemon=True).start()

    def _loop(self, work: Callable[[], None]) -> None:
        while True:
            work()
            del work  # the next may be long in coming
            with self._lock:
                if self._idle >= self.SPARE:
                    return
                self._idle += 1
            work = self._work.get()


_threads = _Threads()


class Lane:
    """The calls of one tier, called ``name``. ``patience``: the longest that a cancelled caller waits, in
    seconds, until its write is over; ``None``: until it is. Thread-safe, and empty after a fork."""

    def __init__(self, name: str, *, patience: float | None = None, width: int = WIDTH) -> None:
        self.name = name
        self.patience = patience
        self._width = width
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        #: In order, and each to be taken out at once: what callers gave up would pile up behind a tier that
        #: hangs, for as long as it does.
        self._waiting: OrderedDict[Future[Any], Callable[[], Any]] = OrderedDict()
        self._running = 0
        self._left_behind = 0
        self._tasks: list[tuple[asyncio.Task[Any], asyncio.AbstractEventLoop]] = []
        #: The loops of async callers, each with how many calls it waits for: a tier that hangs may have
        #: thousands, and each further caller asks whether the lane is stuck.
        self._awaited: dict[asyncio.AbstractEventLoop, int] = {}

    @property
    def stuck(self) -> bool:
        """Whether a call that was left behind is still running."""
        if not (self._left_behind or self._awaited or self._tasks):
            return False
        if self._left_behind:
            return True
        if self._awaited and any(loop.is_closed() for loop in tuple(self._awaited)):
            return True  # left behind by all its callers
        if not self._tasks:
            return False
        with self._lock:
            # What a loop left unfinished when it was closed will never end, and do nothing any more.
            self._tasks = [one for one in self._tasks if not one[0].done() and not one[1].is_closed()]
            return bool(self._tasks)

    def check(self) -> None:
        """Raise `TierUnavailable` if the tier is `stuck`."""
        if self.stuck:
            raise TierUnavailable(
                f"{self.name}: an earlier call, which ran out of its deadline, is still running",
                tier=self.name,
            )

    # -- three ways to make a call -----------------------------------------------------------------

    def call(self, function: Callable[[], T], deadline: float, *, closing: bool = False) -> T:
        """``function()`` on a worker thread, for a blocking caller. Raises `TierTimeout`."""
        return self.wait(self._submit(function, closing=closing), deadline, deadline)

    def wait(self, future: Future[T], deadline: float, seconds: float) -> T:
        """What ``future`` brings, which is a call's. After ``seconds`` it is left behind: `TierTimeout`, for
        the ``deadline`` that it had."""
        try:
            return future.result(max(0.0, seconds))
        except TimeoutError:
            if not future.done():
                self._leave(future)
                raise self.late(deadline) from None
            return future.result()  # or that is the tier's own
        except BaseException:  # interrupted
            if not future.done():
                self._leave(future)
            raise

    async def acall(
        self,
        function: Callable[[], T],
        deadline: float | None,
        *,
        settle: bool,
        closing: bool = False,
    ) -> T:
        """The same for an async caller. If that is cancelled and ``settle`` is set, it hears of it when the
        call is over, as far as patience goes."""
        import asyncio

        future = self._submit(function, closing=closing)
        loop = asyncio.get_running_loop()
        with self._lock:
            self._awaited[loop] = self._awaited.get(loop, 0) + 1
        future.add_done_callback(partial(self._heard, loop))
        running = asyncio.wrap_future(future)
        try:
            await asyncio.wait([running], timeout=deadline)
        except GeneratorExit as error:
            if settle:  # whoever writes next must not be overtaken
                thrown(error)
                self._leave(future)
            raise
        except asyncio.CancelledError:
            if not self._cancel(future):
                running.add_done_callback(_retrieve)
                if settle and not await self._settled(running, self.patience):
                    self._leave(future)
            raise
        if running.done():
            return running.result()
        running.add_done_callback(_retrieve)
        self._leave(future)
        assert deadline is not None  # noqa: S101 - without one the wait ends with the call
        raise self.late(deadline)

    async def atask(
        self, verb: Callable[[], Awaitable[T]], deadline: float, *, settle: bool, closing: bool = False
    ) -> T:
        """``await verb()`` in a task of its own, which is cancelled when its time is over. A task that does
        not heed that is left behind, as a thread would be; ``asyncio.timeout`` would wait for it."""
        import asyncio

        if not closing:
            self.check()

        async def run() -> T:
            return await verb()

        task = asyncio.get_running_loop().create_task(run())
        try:
            await asyncio.wait([task], timeout=deadline)
        except asyncio.CancelledError:
            task.cancel()
            await self._end(task, deadline if settle else _GRACE)
            raise
        if not task.done():
            task.cancel()
            await self._end(task, _GRACE)
            if not task.done() or task.cancelled():
                raise self.late(deadline)
        return task.result()

    # -- what was not waited for ---------------------------------------------------------------------

    def late(self, deadline: float) -> TierTimeout:
        """What a call raises that did not keep its ``deadline``."""
        return TierTimeout(f"{self.name} did not answer within {deadline:g} s", tier=self.name)

    def _leave(self, future: Future[Any]) -> None:
        """Nobody waits for this call any more."""
        if leavings.take(self._leave, future):
            return
        if self._cancel(future):
            return
        with self._lock:
            self._left_behind += 1
        future.add_done_callback(self._over)

    def _cancel(self, future: Future[Any]) -> bool:
        """Whether the call never runs."""
        if not future.cancel():
            return False
        with self._lock:
            job = self._waiting.pop(future, None)
        del job  # not under the lock: what dies with it may be anybody's
        return True

    def _heard(self, loop: asyncio.AbstractEventLoop, _future: Future[Any]) -> None:
        with self._lock:
            left = self._awaited.pop(loop, 1) - 1
            if left:
                self._awaited[loop] = left

    def _over(self, _future: Future[Any]) -> None:
        with self._lock:
            self._left_behind -= 1

    async def _end(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Let a cancelled task come to its end."""
        if not await self._settled(task, seconds):
            task.add_done_callback(_retrieve)
            with self._lock:
                self._tasks.append((task, task.get_loop()))

    @staticmethod
    async def _settled(running: asyncio.Future[Any], seconds: float | None) -> bool:
        """Whether ``running`` is over, after ``seconds`` at most. Cancelling does not cut that short."""
        import asyncio

        until = None if seconds is None else monotonic() + seconds
        while not running.done():
            left = None if until is None else until - monotonic()
            if left is not None and left <= 0:
                return False
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running], timeout=left)
        _retrieve(running)
        return True

    # -- threads -----------------------------------------------------------------------------------

    def _submit(self, function: Callable[[], T], *, closing: bool) -> Future[T]:
        """Call ``function`` on a thread, with the context of this caller: a tier may hold a chain, which has
        to know for whom it works. To close a tier is never refused and waits for nothing."""
        from concurrent.futures import Future

        if not closing:
            self.check()
        future: Future[T] = Future()
        job: Job = (future, partial(contextvars.copy_context().run, function))
        with self._lock:
            if self._running >= self._width and not closing:
                self._waiting[future] = job[1]
                return future
            self._running += 1
        try:
            _threads.run(partial(self._work, job))
        except RuntimeError:  # no more threads
            with self._lock:
                self._running -= 1
                if not self._running:
                    raise
                self._waiting[future] = job[1]
        return future

    def _work(self, job: Job) -> None:
        while True:
            _perform(*job)
            del job
            with self._lock:
                if not self._waiting or self._running > self._width:
                    self._running -= 1
                    return
                job = self._waiting.popitem(last=False)


def _perform(future: Future[Any], function: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except StopIteration as stop:  # asyncio takes it for its own, and the awaiter never wakes
        future.set_exception(RuntimeError(f"a tier raised {stop!r}"))
    except BaseException as error:  # noqa: BLE001 - handed to whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)


def _retrieve(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()  # nobody waits for it any more; asyncio would report it as never retrieved
