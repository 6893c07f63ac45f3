"""Single-flight: for one key, one load runs at a time, however many threads and tasks ask for it.

A `Flight` is one running call of a loader, for one key or for a batch. Whoever finds no flight for a
key leads one; the others wait for its outcome. A leader that is cancelled hands over: its flight ends
with ``None``, and those who waited try again, so that one of them leads.

Waiting can deadlock in three ways, and `Flights.join_or_lead` refuses each:

* a loader asks for a key that it is loading, itself or through other loaders: `LoadError`;
* loaders in several threads ask for each other's keys: `LoadError` to the one that closes the ring;
* a blocking call on an event loop's thread asks for what that loop is loading, or for what waits for
  that: it loads by itself.

Beside the flights stands what loads leave behind, and a write of the key ends: refreshes that were asked
for, pauses after failures, and keys that are known to have no value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import ContextVar
from sys import exception
from typing import TYPE_CHECKING, Any, Final

from tiercache._consistency.keytimes import KeyTimes
from tiercache._consistency.rings import Awaited, Waiting, rings
from tiercache._running.bridge import Runtime
from tiercache._running.event_loops import running_loop
from tiercache._running.futures import new_future
from tiercache._running.owners import Owner, leavings
from tiercache.errors import LoadError
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

    from tiercache._loading.refresh import Refresh

__all__ = ["Flight", "Flights", "aboard", "aboard_nothing", "get_off", "loading", "ride"]

#: What somebody is to do whose loader waits for itself. The key is in no message: they are logged.
_CURE: Final = ", and would wait for itself: have it ask for another, or make the value without asking"
#: The flights that the current thread or task is loading for, outermost first.
_aboard: ContextVar[tuple[Flight, ...]] = ContextVar("tiercache_flights", default=())


class Flight(Awaited):
    """One running load of ``keys``. It ends with a dict of the values there are, with the loader's exception,
    or with ``None`` when the leader gave up and somebody else should lead."""

    __slots__ = ("_error", "_outcome", "_raised_at", "_values", "goes_on", "has_ended", "keys", "of")

    def __init__(
        self, keys: Sequence[str], runtime: Runtime, of: Flights, owner: Owner | None = None
    ) -> None:
        self.keys = keys
        self.of = of
        self.loop = None if runtime.blocking else running_loop()
        self.owner = owner
        self.waits_for = []
        #: Whether it has left its leader, who was cancelled, and ends by itself.
        self.goes_on = False
        self.has_ended = False
        self._values: dict[str, Any] | None = None
        self._error: BaseException | None = None
        self._raised_at: TracebackType | None = None
        self._outcome: Future[dict[str, Any] | None] | None = None

    @property
    def outcome(self) -> Future[dict[str, Any] | None]:
        """What ends with the flight, for those who wait for it."""
        return self.of.outcome_of(self)

    def make_outcome(self) -> Future[dict[str, Any] | None]:
        """The same; call it under the lock. It is made when the first one asks: most flights have nobody
        waiting, and would spend more on it than on all else that they are."""
        outcome = self._outcome
        if outcome is None:
            outcome = new_future()
            if self.has_ended:
                self._tell(outcome)
            self._outcome = outcome
        return outcome

    def end(self, values: dict[str, Any] | None, error: BaseException | None) -> None:
        """It has come to this; call it under the lock, and once."""
        self._values, self._error = values, error
        if error is not None:
            self._raised_at = error.__traceback__
        if self._outcome is not None and not self._outcome.done():  # or an interrupt came just behind that
            self._tell(self._outcome)
        self.has_ended = True  # in the end: until then somebody may end it for who was interrupted here

    def result(self) -> dict[str, Any] | None:
        """What it has ended with, for who waited. Raises its error with the places where the loader raised
        it, and not with those of all others who waited too: each of a thousand would log a thousand."""
        error = self.outcome.exception()
        if error is not None:
            raise error.with_traceback(self._raised_at)
        return self.outcome.result()

    def _tell(self, outcome: Future[dict[str, Any] | None]) -> None:
        if self._error is not None:
            outcome.set_exception(self._error)
        else:
            outcome.set_result(self._values)


class aboard:  # noqa: N801 - read as a statement; a generator would take three times as long
    """``with aboard(flights):`` marks the code inside as part of the loaders of ``flights``: of all that one
    caller leads, for those that it has not come to yet end no sooner than the one it is loading."""

    __slots__ = ("_flights", "_token")

    def __init__(self, flights: Sequence[Flight]) -> None:
        self._flights = flights

    def __enter__(self) -> None:
        riding = loading()
        self._token = _aboard.set((*riding, *self._flights) if riding else tuple(self._flights))

    def __exit__(self, *_error: object) -> None:
        try:  # noqa: SIM105 - `suppress` takes as long as all else here
            _aboard.reset(self._token)
        except ValueError:  # an abandoned coroutine is closed in whatever context there is
            pass


#: The two halves of `aboard` for who has found that the code is part of no loader yet, and goes on in one
#: context until its end.
ride, get_off = _aboard.set, _aboard.reset


def aboard_nothing() -> None:
    """Mark the current context as part of no loader."""
    _aboard.set(())


def loading() -> tuple[Flight, ...]:
    """The flights that the current thread or task is loading for, outermost first."""
    flights = _aboard.get()
    for flight in flights:
        if flight.has_ended:  # an interrupt kept `aboard` from its end, or somebody inherited it
            flights = tuple(flight for flight in flights if not flight.has_ended)
            _aboard.set(flights)
            break
    return flights


class Flights:
    """The flights of one namespace. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, Flight] = {}
        self._refreshes: dict[str, Refresh] = {}
        #: Keys whose loader failed: until when it is left alone while there is another value, and how many
        #: times in a row it failed.
        self.pauses = KeyTimes()
        #: Keys that have no value, as the loader of the codec with that name said.
        self.absent = KeyTimes()
        #: About how long a load takes, in seconds; zero before the first.
        self.load_time = 0.0

    def __len__(self) -> int:
        """How many keys are being loaded."""
        return len(self._flights)

    def join_or_lead(
        self, keys: Sequence[str], batch_size: int, runtime: Runtime, owner: Owner | None = None
    ) -> tuple[list[Flight], dict[Flight, list[str]]]:
        """New flights for those of ``keys`` that nobody loads, at most ``batch_size`` keys in each, in
        order; and the flights of others to wait for, each with the keys that are wanted of it. One that is
        over is given up.

        Every new flight must be ended; it is over without, when its ``owner`` is gone. Raises `LoadError`
        where waiting would never end.
        """
        leavings.settle()
        waiting: Waiting | None = None
        mine: list[str] = []
        theirs: dict[Flight, list[str]] = {}
        alone: list[str] = []
        given_up: list[Flight] = []
        riding = _aboard.get()
        with self._lock:
            for key in keys:
                flight = self._flights.get(key)
                if flight is not None and flight.is_over:
                    given_up.append(flight)
                    flight = None
                if flight is None:
                    if riding:
                        self._refuse_own(key, riding)
                    mine.append(key)
                    continue
                waiting = waiting or _waiting(runtime)
                self._refuse_rings(flight, waiting)
                if waiting.holds_up(flight):
                    alone.append(key)
                else:
                    theirs.setdefault(flight, []).append(key)
            led = [Flight(batch, runtime, self, owner) for batch in _batches(mine, batch_size)]
            for flight in led:
                self._flights.update(dict.fromkeys(flight.keys, flight))
        for flight in given_up:
            self.end(flight)  # whoever waits for it leads, or joins who does
        led += [Flight(batch, runtime, self, owner) for batch in _batches(alone, batch_size)]
        return led, theirs

    def lead_one(self, key: str, runtime: Runtime, owner: Owner) -> Flight | None:
        """A new flight for ``key``, as `join_or_lead` makes; ``None`` if somebody loads the key, or this is
        part of a loader: then ask that."""
        leavings.settle()
        if _aboard.get():
            return None
        flight = Flight([key], runtime, self, owner)
        with self._lock:
            if self._flights.setdefault(key, flight) is not flight:
                return None
        return flight

    async def wait(self, flight: Flight, runtime: Runtime) -> dict[str, Any] | None:
        """The outcome of somebody else's flight. Raises what its loader raised, and `LoadError` where
        waiting would never end."""
        waiting = _waiting(runtime)
        if waiting.mine or waiting.here is not None:
            with rings.lock:
                self._refuse_rings(flight, waiting)
                if waiting.holds_up(flight):
                    return None  # it came to this since `join_or_lead`, which will now refuse to join
                waiting.begin([flight])
        try:
            while not await runtime.ended(flight.outcome, awaited=flight):
                leavings.settle()
                if flight.is_over:  # or it has left its loop and its owner meanwhile
                    self.end(flight)
        finally:
            waiting.end()
        return flight.result()

    def out_of_reach(self, awaited: Awaited, runtime: Runtime) -> bool:
        """Whether ``awaited`` cannot end while this caller waits for it."""
        waiting = _waiting(runtime)
        return waiting.is_part_of(awaited) or waiting.holds_up(awaited)

    def end(
        self, flight: Flight, values: dict[str, Any] | None = None, error: BaseException | None = None
    ) -> None:
        """Let nobody join ``flight`` any more, and give its waiters what there is. Only the first call
        counts."""
        if exception() is not None and leavings.take(self.end, flight, values, error):
            return
        with self._lock:
            if flight.has_ended:
                return
            for key in flight.keys:
                if self._flights.get(key) is flight:
                    del self._flights[key]
            flight.end(values, error)

    def outcome_of(self, flight: Flight) -> Future[dict[str, Any] | None]:
        """See `Flight.outcome`."""
        with self._lock:
            return flight.make_outcome()

    def give_up(self, flight: Flight) -> None:
        """Its leader has gone: somebody else is to lead, unless it goes on by itself."""
        if not flight.goes_on and not flight.has_ended:
            self.end(flight)

    def ask_refresh(
        self, keys: Iterable[str], make: Callable[[list[str]], Refresh]
    ) -> tuple[Refresh | None, dict[str, Refresh]]:
        """A new refresh of those of ``keys`` that nobody refreshes or loads, if there are any; and the
        refreshes under way of the others, by key. The new one must be ended."""
        leavings.settle()
        with self._lock:
            running = {key: self._refreshes[key] for key in keys if key in self._refreshes}
            mine = [key for key in keys if key not in running and key not in self._flights]
            if not mine:
                return None, running
            refresh = make(mine)
            self._refreshes.update(dict.fromkeys(mine, refresh))
            return refresh, running

    def forget_refresh(self, refresh: Refresh) -> None:
        """``refresh`` has ended: its keys may be refreshed anew."""
        if leavings.take(self.forget_refresh, refresh):
            return
        with self._lock:
            for key in refresh.keys:
                if self._refreshes.get(key) is refresh:
                    del self._refreshes[key]

    @property
    def affected(self) -> bool:
        """Whether a write has anything to tell `detach`."""
        return bool(self._flights or self._refreshes or self.pauses.notes or self.absent.notes)

    def detach(self, keys: Collection[str] | None = None) -> None:
        """``keys`` (``None``: all) were written. Let nobody join their flights any more, or take their
        refreshes for new ones: they began before. What was known of the keys is over."""
        if leavings.take(self.detach, keys):
            return
        self.pauses.drop(keys)
        self.absent.drop(keys)
        with self._lock:
            for table in (self._flights, self._refreshes):
                if keys is None:
                    table.clear()
                elif table:
                    for key in keys:
                        table.pop(key, None)

    def _refuse_own(self, key: str, riding: Iterable[Flight]) -> None:
        # Its flight is not listed any more when the loader, or somebody else, has written the key since. One
        # that has ended was inherited by what the loader started and left running: that is no part of it now.
        if any(flight.of is self and key in flight.keys and not flight.has_ended for flight in riding):
            raise LoadError(f"a loader asked for a key that it is loading{_CURE}")

    @staticmethod
    def _refuse_rings(flight: Flight, waiting: Waiting) -> None:
        if waiting.is_part_of(flight):
            raise LoadError(
                f"a loader asked, directly or through another loader, for a key that it is loading{_CURE}"
            )


def _waiting(runtime: Runtime) -> Waiting:
    return Waiting(loading(), running_loop() if runtime.blocking else None)


def _batches(keys: list[str], batch_size: int) -> list[list[str]]:
    if len(keys) <= batch_size:
        return [keys] if keys else []
    return [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
