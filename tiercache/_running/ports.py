"""Ports: a tier as blocking callers see it, or as async ones do, its verbs as awaitable functions.

Of each verb a tier may have a blocking method, an async one, or both. Whichever is missing is made of the
other: an async method runs on the process's loop thread (`tiercache._running.loop_thread`), a blocking one on
a worker thread (`tiercache._running.lanes`), unless it never waits.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from tiercache._running.event_loops import on_its_loop
from tiercache._running.lanes import Lane
from tiercache._running.loop_thread import on_loop_thread
from tiercache.accounts import LEDGER_VERBS
from tiercache.protocols import CAPABILITIES, SupportsJournal

if TYPE_CHECKING:
    from tiercache._running.bridge import Runtime

__all__ = ["WRITES", "Port", "Verb", "blocking_port", "method_of", "native_port"]

Verb = Callable[..., Awaitable[Any]]

#: A cancelled caller of these must not be told so before they are over: what they do is ordered
#: against other writes of the same keys, and a worker thread cannot be interrupted.
WRITES = frozenset({"mset", "mdelete", "clear", "purge", "acquire", "release", "close"}) | {
    "fill", "record", "settle", "post", "claim",
}  # fmt: skip

_JOURNAL: Final = ("glance", "fill", "record", "settle", "due", "owed")


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


def blocking_port(runtime: Runtime, tier: object, lane: Lane | None) -> Port:
    """See `Runtime.port`."""
    return Port(runtime, tier, partial(_blocking_verb, lane), _blocking_method(lane, tier, "mget"))


def native_port(runtime: Runtime, tier: object, lane: Lane | None) -> Port:
    """See `Runtime.port`."""
    lane = lane or Lane(type(tier).__name__)
    never_waits = getattr(tier, "nonblocking", False) and method_of(tier, "amget", "amget") is None
    now = _blocking_method(lane, tier, "mget") if never_waits else None
    return Port(runtime, tier, partial(_native_verb, lane), now)


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
        return partial(on_its_loop, native)
    if method is None:
        return None
    if getattr(tier, "nonblocking", False):
        return _blocking_verb(lane, tier, verb)
    settle, closing = verb in WRITES, verb == "close"

    def call(*args: Any, **options: Any) -> Awaitable[Any]:
        return lane.acall(partial(method, *args, **options), None, settle=settle, closing=closing)

    return call
