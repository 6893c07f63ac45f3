"""One implementation for sync and async: the core is written once, as coroutines, and run two ways.

A `Runtime` is the way. The core never calls a tier, waits for a future or runs a loader by itself; it
asks its runtime to:

* `BLOCKING` answers without ever suspending, so a blocking call runs a whole coroutine with a single
  ``send(None)`` (`drive`). Async-only tiers run on the process's loop thread
  (`tiercache._running.loops`).
* `NATIVE` awaits: native async tiers directly, memory directly too (it never waits), and tiers that
  only block on worker threads (`tiercache._running.lanes`).

A `Port` is one tier as seen from one runtime: its verbs, as awaitable functions.
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from tiercache._running.lanes import Lane
from tiercache._running.loops import on_loop_thread
from tiercache.accounts import LEDGER_VERBS
from tiercache.errors import LoadError
from tiercache.protocols import CAPABILITIES, SupportsJournal

if TYPE_CHECKING:
    # Imported where they are used: they are two thirds of what importing this package would cost.
    import asyncio
    from concurrent.futures import Future

__all__ = [
    "BLOCKING",
    "NATIVE",
    "WRITES",
    "LeftRunning",
    "Port",
    "Resumed",
    "Runtime",
    "Unawaited",
    "Unfinished",
    "called",
    "drive",
    "in_thread",
    "is_cancellation",
    "is_over",
    "method_of",
    "new_future",
    "running_loop",
]

#: Seconds between two looks at whether what others wait for will never end.
_LOOK_AGAIN = 1.0

T = TypeVar("T")
Verb = Callable[..., Awaitable[Any]]

#: A cancelled caller of these must not be told so before they are over: what they do is ordered
#: against other writes of the same keys, and a worker thread cannot be interrupted.
WRITES = frozenset({"mset", "mdelete", "clear", "purge", "acquire", "release", "close"}) | {
    "fill", "record", "settle", "post", "claim",
}  # fmt: skip


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends, and give back its result."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]  # StopIteration carries its value untyped
    coroutine.close()
    raise RuntimeError("a blocking call was suspended; a tier's blocking method returned an awaitable")


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this very thread, if one does."""
    events = sys.modules.get("asyncio.events")  # a program that never imported it runs no loop
    if events is None:
        return None
    try:
        return events.get_running_loop()  # type: ignore[no-any-return]  # a module by its name is untyped
    except RuntimeError:
        return None


def is_over(loop: asyncio.AbstractEventLoop | None) -> bool:
    """Whether ``loop`` will never run again. One that stands still may: taking over would pay twice."""
    return loop is not None and loop.is_closed()


def is_cancellation(error: BaseException) -> bool:
    """Whether a task was cancelled with ``error``. Imports nothing: an interrupt may be what is being
    handled, and the next one would leave the import half done."""
    exceptions = sys.modules.get("asyncio.exceptions")
    return isinstance(error, getattr(exceptions, "CancelledError", ()))


def new_future() -> Future[Any]:
    """A future that no waiter can cancel: cancelling a wrapped *pending* one would cancel it for all."""
    from concurrent.futures import Future

    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future


# -- threads ---------------------------------------------------------------------------------------


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Call ``function`` in a thread of its own. For loaders: however many of them wait for each other,
    there is always a thread for the next."""
    future: Future[T] = new_future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(error)

    threading.Thread(target=run, name="tiercache-loader", daemon=True).start()
    return future


# -- ports -----------------------------------------------------------------------------------------


class Port:
    """A tier's verbs for one runtime; those beyond the four are ``None`` where the tier lacks them."""

    __slots__ = (
        "acquire", "claim", "clear", "close", "due", "fill", "glance", "lengths", "mdelete", "mget", "mset",
        "now", "owed", "peek", "post", "posted", "purge", "record", "release", "runtime", "scan", "settle",
        "spent",
    )  # fmt: skip

    mget: Verb
    mset: Verb
    mdelete: Verb
    close: Verb
    peek: Verb | None
    lengths: Verb | None
    scan: Verb | None
    clear: Verb | None
    purge: Verb | None
    acquire: Verb | None
    release: Verb | None
    # Those of a tier that keeps the journal; only it is asked for them.
    glance: Verb
    fill: Verb
    record: Verb
    settle: Verb
    due: Verb
    owed: Verb
    # And those of one that keeps the ledger.
    post: Verb
    posted: Verb
    spent: Verb
    claim: Verb

    def __init__(
        self,
        runtime: Runtime,
        tier: object,
        adapt: Callable[[object, str], Verb | None],
        now: Callable[..., Any] | None,
    ) -> None:
        self.runtime = runtime
        #: ``mget`` as a plain call, where nobody awaits it: one coroutine less for each read.
        self.now = now
        for verb in ("mget", "mset", "mdelete", "close", *CAPABILITIES):
            setattr(self, verb, adapt(tier, verb))
        # The first look costs next to nothing, the second tens of microseconds before Python 3.12 (here, and
        # wherever a chain is made).
        if hasattr(tier, "glance") and isinstance(tier, SupportsJournal):
            for verb in _JOURNAL:
                setattr(self, verb, adapt(tier, verb))
        if getattr(tier, "ledgers", False) is True:
            for verb in LEDGER_VERBS:
                setattr(self, verb, adapt(tier, verb))


_JOURNAL: Final = ("glance", "fill", "record", "settle", "due", "owed")

#: How the chain calls the verbs that a tier need not have.
_CAPABILITY_CALLS: Final[dict[str, Callable[[inspect.Signature], object]]] = {
    "peek": lambda signature: signature.bind([""]),
    "lengths": lambda signature: signature.bind([""]),
    "scan": lambda signature: signature.bind("", skip="", cursor=None, limit=1),
    "clear": lambda signature: signature.bind("", skip=""),
    "purge": lambda signature: signature.bind("", skip="", what=None),
    "acquire": lambda signature: signature.bind([""], "token", 1.0),
    "release": lambda signature: signature.bind([""], "token"),
}


def method_of(tier: object, verb: str, name: str) -> Any:
    """The tier's method ``name``, if it is the ``verb`` of the protocol: a tier of somebody else may well
    have a ``clear()`` for purposes of its own."""
    method = getattr(tier, name, None)
    if not callable(method):
        return None
    if verb not in _CAPABILITY_CALLS:
        return method
    function = getattr(method, "__func__", None)
    if not inspect.isfunction(function) or function is not getattr(type(tier), name, None):
        return method if _is_called_so(method, verb) else None  # this object's own
    known = _KNOWN_CALLS[verb]
    fits = known.get(function)
    if fits is None:
        fits = known[function] = _is_called_so(method, verb)
    return method if fits else None


#: Whether a class's method is a verb: looking takes longer than all the rest of making a chain, and services
#: make one for each user. Weak, so that no class is kept; two threads may well look at once.
_KNOWN_CALLS: Final = {verb: WeakKeyDictionary[Any, bool]() for verb in _CAPABILITY_CALLS}


def _is_called_so(method: Callable[..., Any], verb: str) -> bool:
    try:
        _CAPABILITY_CALLS[verb](inspect.signature(method))
    except TypeError:
        return False
    except ValueError:  # written in C, and not telling
        pass
    return True


def _blocking_method(lane: Lane | None, tier: object, verb: str) -> Callable[..., Any] | None:
    method: Callable[..., Any] | None = method_of(tier, verb, verb)
    if method is not None:
        return method
    native = method_of(tier, verb, f"a{verb}")
    return None if native is None else partial(on_loop_thread, lane, native)


def _blocking_verb(lane: Lane | None, tier: object, verb: str) -> Verb | None:
    method = _blocking_method(lane, tier, verb)
    if method is None:
        return None

    async def call(*args: Any, **options: Any) -> Any:
        return method(*args, **options)

    return call


def _native_verb(lane: Lane, tier: object, verb: str) -> Verb | None:
    native: Verb | None = method_of(tier, verb, f"a{verb}")
    method = method_of(tier, verb, verb)
    if native is not None:
        return partial(_on_its_loop, native)
    if method is None:
        return None
    if getattr(tier, "nonblocking", False):
        return _blocking_verb(lane, tier, verb)
    settle, closing = verb in WRITES, verb == "close"

    def call(*args: Any, **options: Any) -> Awaitable[Any]:
        return lane.acall(partial(method, *args, **options), None, settle=settle, closing=closing)

    return call


async def _on_its_loop(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """The result of somebody's async function. If it is thrown away with its event loop, what it raises for
    want of that as it cleans up is no failure."""
    loop = running_loop()
    try:
        return await function(*args, **options)
    except Exception as error:
        if is_over(loop):
            raise GeneratorExit from error
        raise


# -- runtimes --------------------------------------------------------------------------------------


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
        return Port(self, tier, partial(_blocking_verb, lane), _blocking_method(lane, tier, "mget"))

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
        lane = lane or Lane(type(tier).__name__)
        never_waits = getattr(tier, "nonblocking", False) and method_of(tier, "amget", "amget") is None
        now = _blocking_method(lane, tier, "mget") if never_waits else None
        return Port(self, tier, partial(_native_verb, lane), now)

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
            return await _on_its_loop(_checked, function, *args)
        # A plain loader may block: it gets a thread, with the caller's context.
        run = partial(contextvars.copy_context().run, _checked, function, *args)
        future = in_thread(run)
        try:
            result = await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if future.done() and future.exception() is not None:
                raise
            raise LeftRunning(future, error) from None
        return await _on_its_loop(lambda: result) if inspect.isawaitable(result) else result


class LeftRunning(BaseException):
    """The caller of a user's function was ``cancelled``, and that runs on in a thread, until ``future``.

    ``call``: what the ledger has noted of it, if one is kept. ``lost``: to be called, with the reason, by who
    cannot wait for the future: nobody will hear of its end.
    """

    call: Any = None
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
