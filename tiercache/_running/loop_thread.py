"""The loop thread: where async-only tiers run for blocking callers.

There is one event loop for that in a process, in a daemon thread. A tier that blocks it holds up the calls
of others: so a call that it does not come to is moved to another loop, which everybody uses from then on, and
the one that was held up is a spare once it is free again. A call that has begun cannot be moved or stopped:
where its tier has a deadline it is left behind soon after that, as one on a worker thread would be
(`tiercache._running.lanes`), and its tier gets no other before it ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from tiercache._running.lanes import Lane
from tiercache.errors import TierTimeout
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    # Imported where they are used: they are two thirds of what importing this package would cost.
    import asyncio
    from concurrent.futures import Future

__all__ = ["on_loop_thread"]

#: Seconds that a loop may take to come to a call before it counts as held up.
_HELD_UP = 1.0
#: Seconds beyond its tier's deadline after which a call is left behind: one that the loop can cancel has
#: ended by then.
_OVERDUE = 0.5


class _LoopThread:
    """The loop of the process, made when first needed. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        #: Loops that were held up, and are not any more.
        self._spare: deque[asyncio.AbstractEventLoop] = deque()

    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop for the next call. Raises `RuntimeError` if there can be no thread for it."""
        with self._lock:
            if self._loop is None:
                self._loop = self._spare.popleft() if self._spare else _begun()
            return self._loop

    def replace(self, loop: asyncio.AbstractEventLoop) -> None:
        """Use another, for something holds up ``loop``."""
        with self._lock:
            if self._loop is not loop:
                return
            self._loop = None
        # Rejected: to stop it then. What its tiers keep there (connections, tasks) would be cut off.
        loop.call_soon_threadsafe(self._spare.append, loop)


def _begun() -> asyncio.AbstractEventLoop:
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        threading.Thread(target=loop.run_forever, name="tiercache-loop", daemon=True).start()
    except RuntimeError:  # no more threads
        loop.close()
        raise
    return loop


_loop_thread = _LoopThread()


class _Call:
    """One call on one loop. ``ended`` ends with what it gives."""

    def __init__(self, loop: asyncio.AbstractEventLoop, run: Callable[[], Awaitable[Any]]) -> None:
        import asyncio
        from concurrent.futures import Future

        self._run = run
        self._claim = threading.Lock()
        self.ended: Future[Any] = Future()
        self.ended.set_running_or_notify_cancel()  # who gives it up does not end it
        self._handle = asyncio.run_coroutine_threadsafe(self._perform(), loop)

    async def _perform(self) -> None:
        if not self._claim.acquire(blocking=False):
            return  # it was taken back
        try:
            self.ended.set_result(await self._run())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            self.ended.set_exception(error)

    def take_back(self) -> bool:
        """Whether the loop has not come to it, and never will now."""
        return self._claim.acquire(blocking=False)

    def cancel(self) -> None:
        """Nobody waits for it any more."""
        from concurrent.futures import CancelledError

        if self.take_back():
            self.ended.set_exception(CancelledError())
        self._handle.cancel()


def on_loop_thread(lane: Lane | None, verb: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """``await verb(*args, **options)`` on the loop thread. Raises `TierTimeout` if that takes longer than
    `Lane.patience` and a moment."""
    from concurrent.futures import wait

    patience = None if lane is None else lane.patience
    limit = None if patience is None else patience + _OVERDUE
    until = float("inf") if limit is None else monotonic() + limit
    while True:
        loop = _loop_thread.loop()
        call = _Call(loop, lambda: verb(*args, **options))
        try:
            wait([call.ended], _HELD_UP if limit is None else min(_HELD_UP, limit / 2))
            if call.ended.done() or not call.take_back():
                if lane is None or patience is None:
                    return call.ended.result()
                return lane.wait(call.ended, patience, until - monotonic())
        except BaseException as error:
            if not call.ended.done():
                if isinstance(error, TierTimeout):
                    _loop_thread.replace(loop)
                call.cancel()
            raise
        _loop_thread.replace(loop)
        if lane is not None and patience is not None and monotonic() >= until:
            raise lane.late(patience)
