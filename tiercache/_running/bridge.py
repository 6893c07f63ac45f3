"""One implementation for sync and async: the core is written once, as coroutines, and run two ways.

A `Runtime` is the way. The core never calls a tier, waits for a future or runs a loader by itself; it
asks its runtime to:

* `BLOCKING` answers without ever suspending, so a blocking call runs a whole coroutine with a single
  ``send(None)`` (`drive`). Async-only tiers run on the process's loop thread
  (`tiercache._running.loop_thread`).
* `NATIVE` awaits: native async tiers directly, memory directly too (it never waits), and tiers that
  only block on worker threads (`tiercache._running.lanes`).

A `Port` is one tier as seen from one runtime (`tiercache._running.ports`).
"""

from __future__ import annotations

import contextvars
import inspect
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from tiercache._running.event_loops import on_its_loop
from tiercache._running.futures import in_thread
from tiercache._running.lanes import Lane
from tiercache._running.ports import Port, blocking_port, native_port
from tiercache.errors import LoadError

if TYPE_CHECKING:
    # Imported where they are used: they are two thirds of what importing this package would cost.
    import asyncio
    from concurrent.futures import Future

__all__ = [
    "BLOCKING",
    "NATIVE",
    "LeftRunning",
    "Resumed",
    "Runtime",
    "Unawaited",
    "Unfinished",
    "called",
    "drive",
]

#: Seconds between two looks at whether what others wait for will never end.
_LOOK_AGAIN = 1.0

T = TypeVar("T")


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and give back its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # StopIteration carries its value untyped
    coroutine.close()
    raise RuntimeError("a blocking call was suspended; a tier's blocking method returned an awaitable")


class MayBeOver(Protocol):
    """What may stop in the middle."""

    @property
    def is_over(self) -> bool:
        """Whether it has, for good."""
        ...


class Runtime(Protocol):
    """How the core reaches the world outside it."""

    blocking: bool

    def port(self, tier: object, lane: Lane | None = None) -> Port:
        """``tier`` as this runtime sees it. What has to run on worker threads does so in ``lane``, and what
        is left behind is noted there."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        ...

    async def wait(self, future: Future[T]) -> T:
        """The future's result, when it is there."""
        ...

    async def ended(
        self,
        future: Future[Any],
        *,
        seconds: float | None = None,
        awaited: MayBeOver | None = None,
    ) -> bool:
        """Wait until ``future`` has ended, at most so long, and only while ``awaited``, which it ends with,
        is not over; whether it has. Does not raise what it ended with."""
        ...

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a user's function: a loader. Raises `LeftRunning`."""
        ...


#: What loaders mostly return, and nobody awaits: asking `inspect` takes longer than calling most of them.
_VALUES: Final = frozenset({bytes, str, dict, list, type(None)})


class _Blocking:
    blocking = True

    def port(self, tier: object, lane: Lane | None = None) -> Port:
        return blocking_port(self, tier, lane)

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - no event loop runs this coroutine

    async def wait(self, future: Future[T]) -> T:
        return future.result()

    async def ended(
        self,
        future: Future[Any],
        *,
        seconds: float | None = None,
        awaited: MayBeOver | None = None,
    ) -> bool:
        from concurrent.futures import wait

        for pause in _looks(future, seconds, awaited):
            wait([future], pause)
        return future.done()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        return called(function, *args)


class Resumed(_Blocking):
    """The same for who goes on where another ``left`` off: the user's function was called, and its future
    ends with its result. Raises `Unfinished` where that is still to be awaited."""

    def __init__(self, left: LeftRunning) -> None:
        self.left = left

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ARG002 - see above
        result = _checked(self.left.future.result)
        if inspect.isawaitable(result):
            _unwanted(result)
            raise Unfinished
        return result


class _Native:
    blocking = False

    def port(self, tier: object, lane: Lane | None = None) -> Port:
        return native_port(self, tier, lane)

    async def sleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    async def wait(self, future: Future[T]) -> T:
        import asyncio

        return await asyncio.wrap_future(future)

    async def ended(
        self,
        future: Future[Any],
        *,
        seconds: float | None = None,
        awaited: MayBeOver | None = None,
    ) -> bool:
        import asyncio

        if future.done():
            return True
        wrapped = asyncio.wrap_future(future)
        try:
            for pause in _looks(future, seconds, awaited):
                await asyncio.wait([wrapped], timeout=pause)
        finally:
            if not wrapped.get_loop().is_closed():  # or else this coroutine is thrown away
                wrapped.cancel()  # no more than the wrapper: see `new_future`
            if not wrapped.cancelled() and wrapped.done():
                wrapped.exception()  # seen, or asyncio reports it as never retrieved
        return future.done()

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        import asyncio

        if inspect.iscoroutinefunction(function):
            return await on_its_loop(_checked, function, *args)
        # A plain loader may block: it gets a thread, with the caller's context.
        run = partial(contextvars.copy_context().run, _checked, function, *args)
        future = in_thread(run)
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if future.done() and future.exception() is not None:
                raise
            raise LeftRunning(future, error) from None
        return await on_its_loop(lambda: result) if inspect.isawaitable(result) else result


class LeftRunning(BaseException):
    """The caller of a user's function was ``cancelled``, and that runs on in a thread, until ``future``.

    ``call``: what the ledger has noted of it, if one is kept. ``lost``: to be called, with the reason, by who
    cannot wait for the future: nobody will hear of its end. ``given``: what was made of its result already,
    where the caller was cancelled after that.
    """

    call: Any = None
    given: Any = None
    lost: Callable[[BaseException], object] = staticmethod(lambda _error: None)

    def __init__(self, future: Future[Any], cancelled: asyncio.CancelledError) -> None:
        self.future = future
        self.cancelled = cancelled


class Unfinished(BaseException):
    """What a user's function returned needs the event loop of a caller who has gone."""


class Unawaited(TypeError):
    """A blocking call was given what would have to be awaited. Others may await it."""


def _unwanted(awaitable: Awaitable[Any]) -> None:
    if inspect.iscoroutine(awaitable):
        awaitable.close()  # or Python complains that nobody awaited it


def _looks(future: Future[Any], seconds: float | None, awaited: MayBeOver | None) -> Iterator[float | None]:
    """How long to wait for ``future`` each time, as `Runtime.ended` does. Nobody tells when a loop is closed
    or a call was interrupted: so those who wait for them look now and then."""
    until = inf if seconds is None else time.monotonic() + seconds
    while not future.done() and not (awaited is not None and awaited.is_over):
        left = until - time.monotonic()
        if left <= 0:
            return
        pause = left if awaited is None else min(left, _LOOK_AGAIN)
        yield None if pause == inf else pause


def called(function: Callable[..., Any], *args: Any) -> Any:
    """The result of a user's function for a blocking caller; see `Runtime.call`."""
    result = _checked(function, *args)
    if type(result) not in _VALUES and inspect.isawaitable(result):
        _unwanted(result)
        raise Unawaited(
            "an async loader was given to a blocking call; await the async twin (aget_or_load, ...)"
        )
    return result


def _checked(function: Callable[..., Any], *args: Any) -> Any:
    try:
        return function(*args)
    except StopIteration as stop:
        # It would end the coroutine that runs it, and reach the caller as a RuntimeError about that.
        raise LoadError("the loader raised StopIteration; a next() in it found nothing") from stop


BLOCKING: Final[Runtime] = _Blocking()
NATIVE: Final[Runtime] = _Native()
