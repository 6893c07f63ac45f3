"""`Gate`: at most so many loads at once, of threads and tasks together.

A load that waits for another one, since its loader asks the cache for something, does not count meanwhile: it
lends its place. So a loader may load what it needs, also where there is one place alone, and no two of them
wait for each other's.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Coroutine
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any, TypeVar

from tiercache._consistency.flights import loading
from tiercache._consistency.rings import Awaited, Waiting, rings
from tiercache._loading.closing import Closing, end
from tiercache._running.bridge import Runtime
from tiercache._running.event_loops import running_loop
from tiercache._running.futures import new_future
from tiercache._running.owners import Owner, leavings, thrown
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

__all__ = ["Gate", "Place", "inside", "lending", "places", "within"]

T = TypeVar("T")

#: The places of the loads that the current thread or task is part of.
_places: ContextVar[tuple[Place, ...]] = ContextVar("tiercache_places", default=())


class _Thread(threading.local):
    """The current one, and the ``places`` that it took in whatever context: of streams, one may be read piece
    by piece in a context that is not that of who reads it, as chains of LangChain do."""

    places: tuple[Place, ...] = ()


_thread = _Thread()


class Place(Awaited):
    """A load's place in a `Gate`. It waits for nothing itself, or it would be lent; but whoever wants it may
    need an event loop."""

    __slots__ = ("gate", "given", "has_ended", "lent")

    def __init__(self, gate: Gate, runtime: Runtime, owner: Owner) -> None:
        self.gate = gate
        self.loop = None if runtime.blocking else running_loop()
        self.owner = owner
        self.waits_for = []
        #: Ends when it has its place; ``None``: it has it from the beginning.
        self.given: Future[None] | None = None
        #: How many calls that the load is waiting for have borrowed it.
        self.lent = 0
        self.has_ended = False


class _Loop(Awaited):
    """Stands for all places that need one event loop. Nothing else of a place matters to who looks for rings,
    and if each who waits listed all that are ahead, thousands of them would be millions of notes."""

    __slots__ = ()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.owner = None
        self.waits_for = []


class Gate:
    """So many places, for loads. Thread-safe."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        #: Who has a place and has not lent it, and who waits for one, both in their order. (The first of a
        #: plain dict is behind the gaps of all that were taken from it.)
        self._taken: dict[Place, None] = {}
        self._waiting: OrderedDict[Place, None] = OrderedDict()
        #: How many of those who wait need which event loop.
        self._loops: Counter[asyncio.AbstractEventLoop | None] = Counter()

    def __repr__(self) -> str:
        return f"Gate({self.size})"

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self._taken)

    @property
    def is_over(self) -> bool:
        """For `Runtime.ended`: who waits looks now and then whether those who have a place can still give it
        back. In one wait: each new one would leave a callback with what is waited for."""
        leavings.settle()
        self._sweep()
        return False

    async def enter(self, runtime: Runtime, owner: Owner, closing: Closing) -> Place:
        """A place, once there is one; to be given back, and that is done when its ``owner`` is gone. A caller
        whose waiting would hold up those who have the places gets one at once, over their number. Who waits
        when the cache is closed gets a `CacheClosed`."""
        place = Place(self, runtime, owner)
        self._settle()
        with self._lock:
            if self._take(place):
                return place
            place.given = given = new_future()
            loops = {one.loop for one in self._taken}.union(self._loops)
            self._waiting[place] = None
            self._loops[place.loop] += 1
        ahead = [_Loop(loop) for loop in loops if loop is not None]
        waiting = Waiting(loading(), running_loop() if runtime.blocking else None)
        entered = False
        try:
            with rings.lock:
                if any(waiting.holds_up(one) or waiting.is_part_of(one) for one in ahead):
                    self._give(place)
                else:
                    waiting.begin(ahead)
            with closing.ending(given):
                await runtime.ended(given, awaited=self)
            entered = True
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            waiting.end()
            if not entered:
                self.leave(place)
        return place

    def enter_now(self, runtime: Runtime, owner: Owner) -> Place | None:
        """The same for who does not wait: a place, if there is one."""
        place = Place(self, runtime, owner)
        self._settle()
        with self._lock:
            return place if self._take(place) else None

    def leave(self, place: Place) -> None:
        """Give ``place`` back, or wait for it no more. Only the first call counts."""
        if leavings.take(self.leave, place):
            return
        with self._lock:
            place.has_ended = True
            self._taken.pop(place, None)
            self._wait_no_more(place)
            ready = self._next()
        _tell(ready)

    def lend(self, place: Place) -> None:
        """The load that has ``place`` waits for a call that it made itself."""
        with self._lock:
            place.lent += 1
            self._taken.pop(place, None)
            ready = self._next()
        _tell(ready)

    def take_back(self, place: Place) -> None:
        """It waits no more: it has its place at once, though it may be over their number."""
        if leavings.take(self.take_back, place):
            return
        with self._lock:
            place.lent -= 1
            if not place.lent and not place.has_ended:
                self._taken[place] = None

    def _settle(self) -> None:
        """Give back what nobody else will, where it is wanted."""
        leavings.settle()
        if len(self._taken) >= self.size:
            self._sweep()

    def _take(self, place: Place) -> bool:
        """Take ``place`` at once, if there is one and nobody waits; whether it was. The lock is held."""
        if len(self._taken) >= self.size or self._waiting:
            return False
        self._taken[place] = None
        return True

    def _give(self, place: Place) -> None:
        with self._lock:
            if not self._wait_no_more(place):
                return  # somebody was quicker
            self._taken[place] = None
        _tell([place])

    def _wait_no_more(self, place: Place) -> bool:
        """Take ``place`` from those who wait; whether it was among them. The lock is held."""
        if place not in self._waiting:
            return False
        del self._waiting[place]
        self._loops[place.loop] -= 1
        if not self._loops[place.loop]:
            del self._loops[place.loop]
        return True

    def _next(self) -> list[Place]:
        """Those who get a place now. The lock is held."""
        ready = []
        while self._waiting and len(self._taken) < self.size:
            place = next(iter(self._waiting))
            self._wait_no_more(place)
            if not place.is_over:
                self._taken[place] = None
                ready.append(place)
        return ready

    def _sweep(self) -> None:
        """Take the places of those who will never come to their end. (Who waits is looked at in his turn.)"""
        with self._lock:
            over = [place for place in self._taken if place.is_over]
        for place in over:
            self.leave(place)


def _tell(ready: list[Place]) -> None:
    for place in ready:
        if place.given is not None:
            end(place.given)


class inside:  # noqa: N801 - read as a statement
    """``with inside(place):`` marks the code inside as part of the load that has ``place``."""

    __slots__ = ("_place", "_token")

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> None:
        self._token: Token[tuple[Place, ...]] = _places.set((*_places.get(), self._place))

    def __exit__(self, *_error: object) -> None:
        try:  # noqa: SIM105 - as `aboard` has it
            _places.reset(self._token)
        except ValueError:  # an abandoned coroutine is closed in whatever context there is
            pass


def within(place: Place, runtime: Runtime) -> None:
    """The current thread or task is part of the load that has ``place``, until that ends: for who is not
    told where its code ends."""
    _places.set((*_going_on(_places.get()), place))
    if runtime.blocking:
        _thread.places = (*_going_on(_thread.places), place)


def places(runtime: Runtime) -> tuple[Place, ...]:
    """Those of the loads that the current thread or task is part of. A thread that waits reads no stream
    either."""
    found = _places.get()
    if runtime.blocking and (own := _thread.places):
        found = (*found, *(place for place in own if place not in found))
    return _going_on(found) if found else found


def _going_on(some: tuple[Place, ...]) -> tuple[Place, ...]:
    return tuple(place for place in some if not place.has_ended)


async def lending(lent: tuple[Place, ...], coroutine: Coroutine[Any, Any, T]) -> T:
    """What ``coroutine`` returns, with the places ``lent`` meanwhile."""
    for place in lent:
        place.gate.lend(place)
    try:
        return await coroutine
    except GeneratorExit as gone:
        thrown(gone)
        raise
    finally:
        for place in lent:
            place.gate.take_back(place)
