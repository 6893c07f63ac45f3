"""`Batches`: loads of few keys that come within a window of time become one call of the loader.

Whoever comes to it first when the window is over, or fills the batch, leads it: he takes all that has
gathered and calls the loader; the others wait for their part of what that gives. A leader that is cancelled
hands over to one of these, all at once: each by itself would be as many calls as there are callers. A caller
that is cancelled before leaves the batch. A plain loader that runs on in its thread
ends the batch from there.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Hashable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from tiercache._consistency.flights import Flight, loading
from tiercache._consistency.rings import Awaited, rings
from tiercache._loading.failures import is_wrong_request
from tiercache._running.bridge import BLOCKING, LeftRunning, Resumed, Runtime, Unawaited, Unfinished, drive
from tiercache._running.event_loops import running_loop
from tiercache._running.futures import in_thread, new_future
from tiercache._running.owners import leavings, thrown
from tiercache.forks import reset_after_fork

if TYPE_CHECKING:
    from concurrent.futures import Future
    from types import TracebackType

__all__ = ["Batches", "Run", "Seat", "may_gather", "part"]


def may_gather(runtime: Runtime, loader: Any) -> bool:
    """Whether a load of this caller may wait for others. Not where a blocking call holds up an event loop,
    whose tasks may be among these; nor where it is given what it cannot call: that is its own error."""
    if isinstance(runtime, Resumed):
        return True
    if not runtime.blocking:
        return True
    return running_loop() is None and not inspect.iscoroutinefunction(inspect.unwrap(loader))


#: The outcome of a batch that the provider refused as a whole: it says nothing of each caller's keys.
_APART = object()


class Seat:
    """One load in a batch: of ``keys``, by ``loader``, for ``flight``."""

    __slots__ = ("batch", "flight", "gone", "keys", "loader", "riding")

    def __init__(self, keys: list[str], loader: Any, flight: Flight) -> None:
        self.keys = keys
        self.loader = loader
        self.flight = flight
        self.batch: _Batch | None = None
        #: Whether its caller waits no more.
        self.gone = False
        #: All that waits with it.
        self.riding: tuple[Awaited, ...] = loading()

    def part(self, values: dict[str, Any]) -> dict[str, Any]:
        """What it gets of the batch's ``values``. Raises an error that stands in the place of one."""
        return part(values, self.keys)


def part(values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """Those of ``values`` that are for ``keys``. Raises an error that stands in the place of one."""
    for key in keys:
        if isinstance(values.get(key), Exception):
            raise values[key]
    return {key: values[key] for key in keys if key in values}


#: Calls a loader, at its pace, for all keys of some seats.
Run: TypeAlias = Callable[[Runtime, Sequence[Seat]], Awaitable[dict[str, Any]]]


class _Batch:
    """What has gathered. ``outcome``: the values, an error, `_APART`, or ``None`` when the leader gave up."""

    __slots__ = ("due", "ended", "keys", "leader", "outcome", "place", "raised_at", "seats")

    def __init__(self, place: Hashable, due: float) -> None:
        self.place = place
        self.due = due
        self.keys: set[str] = set()
        self.seats: dict[Seat, None] = {}
        self.leader: Seat | None = None
        self.ended = False
        self.outcome: Future[Any] = new_future()
        self.raised_at: TracebackType | None = None

    def result(self) -> Any:
        """Its outcome, for who waited. Raises its error as `Flight.result` does."""
        error = self.outcome.exception()
        if error is not None:
            raise error.with_traceback(self.raised_at)
        return self.outcome.result()

    @property
    def is_over(self) -> bool:
        """Whether who leads it will never come to its end."""
        return self.leader is not None and self.leader.flight.is_over


class Batches:
    """The batches of one root chain. Thread-safe."""

    def __init__(self) -> None:
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()
        #: Those that may be joined, by the loader and what bounds them.
        self._open: dict[Hashable, _Batch] = {}

    async def load(
        self, runtime: Runtime, group: Hashable, window: float, most: int | None, seat: Seat, run: Run
    ) -> dict[str, Any]:
        """The values of the keys of ``seat``, by a batch of what has the same ``group``, or by ``run`` alone.
        ``window``: how long it gathers, in seconds; ``most``: how many keys it may have."""
        if isinstance(runtime, Resumed):
            return await self._resumed(runtime, seat, run)
        place = (group, window, most)
        seat.batch = None
        while True:
            leavings.settle()
            leads = stays = False
            try:
                batch = seat.batch or self._sit(place, seat, window, most)
                # Who fills it goes at once.
                if most is None or len(batch.keys) < most:
                    left = max(0.0, batch.due - monotonic())
                    await runtime.ended(batch.outcome, seconds=left, awaited=batch)
                leads = self._claim(batch, seat)
                if not leads:
                    await self._wait(runtime, batch)
                stays = True
            except GeneratorExit as gone:
                thrown(gone)
                raise
            finally:
                if not stays:
                    self._leave(seat)
            outcome = await self._lead(runtime, batch, run) if leads else batch.result()
            if outcome is _APART:
                return seat.part(await run(runtime, [seat]))
            if outcome is not None:
                return seat.part(outcome)
            # Its leader gave up: `_end` has put who is left into another one.

    async def _resumed(self, runtime: Resumed, seat: Seat, run: Run) -> dict[str, Any]:
        """The same for one who was cancelled: the batch has ended behind its leader, or else the loader that
        was left running was called for him apart."""
        assert seat.batch is not None  # noqa: S101 - it had one when its loader was left running
        if runtime.left.future is not seat.batch.outcome:
            return seat.part(await run(runtime, [seat]))
        outcome = seat.batch.result()
        if outcome is None:
            raise Unfinished
        return seat.part(await run(BLOCKING, [seat]) if outcome is _APART else outcome)

    async def _wait(self, runtime: Runtime, batch: _Batch) -> None:
        """Wait until somebody who leads ``batch`` has come to its end."""
        while not await runtime.ended(batch.outcome, awaited=batch):
            leavings.settle()
            if batch.is_over:
                self._end(batch, None)

    async def _lead(self, runtime: Runtime, batch: _Batch, run: Run) -> Any:
        """Call the loader for ``batch``, and tell the others; its outcome."""
        seats = list(batch.seats)
        outcome: Any = None
        runs_on = False
        try:
            outcome = await run(runtime, seats)
        except LeftRunning as left:
            runs_on = self._go_on(batch, run, left)
            raise (LeftRunning(batch.outcome, left.cancelled) if runs_on else left.cancelled) from None
        except Unawaited:  # that is its own error: another leads, who may await it
            raise
        except Exception as error:
            # A request that is wrong is so because of one caller's key: the others are not to hear of it.
            outcome = _APART if len(seats) > 1 and is_wrong_request(error) else error
            if outcome is error:
                raise
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            if not runs_on:
                self._end(batch, outcome)
        return outcome

    def _go_on(self, batch: _Batch, run: Run, left: LeftRunning) -> bool:
        """The leader was cancelled while a plain loader ran: wait for its future, behind him; whether that
        could be begun."""

        async def go_on() -> None:
            outcome: Any = None
            try:
                outcome = await run(Resumed(left), list(batch.seats))
            except Exception as error:  # noqa: BLE001 - handed to those who wait
                outcome = _APART if len(batch.seats) > 1 and is_wrong_request(error) else error
            except Unfinished:
                pass  # one of those who wait leads
            finally:
                self._end(batch, outcome)

        try:
            in_thread(lambda: drive(go_on()))
        except RuntimeError as error:  # no more threads: what the loader makes is lost
            left.lost(error)
            return False
        return True

    # -- who is in it ------------------------------------------------------------------------------

    def _sit(self, place: Hashable, seat: Seat, window: float, most: int | None) -> _Batch:
        """The batch that ``seat`` is in now."""
        with self._lock:
            batch = self._open.get(place)
            # A key that is there already has another flight, and its value is not to be shared unseen.
            if batch is None or self._is_too_much(batch, seat, most):
                batch = self._open[place] = _Batch(place, monotonic() + window)
            seat.batch = batch
            batch.keys.update(seat.keys)
            batch.seats[seat] = None
            if most is not None and len(batch.keys) >= most:
                del self._open[place]
            return batch

    @staticmethod
    def _is_too_much(batch: _Batch, seat: Seat, most: int | None) -> bool:
        if most is not None and len(batch.keys) + len(seat.keys) > most:
            return True
        return not batch.keys.isdisjoint(seat.keys)

    def _claim(self, batch: _Batch, seat: Seat) -> bool:
        """Whether ``seat`` leads ``batch``, since nobody does. From now on nobody joins or leaves it."""
        with self._lock:
            if batch.leader is not None or batch.outcome.done():
                return False
            batch.leader = seat
            self._shut(batch)
            with rings.lock:
                for other in batch.seats:
                    for one in other.riding if other is not seat else ():
                        one.waits_for.append(seat.flight)
        return True

    def _leave(self, seat: Seat) -> None:
        """``seat`` waits no more. Nothing is loaded for it if its batch has not begun."""
        if leavings.take(self._leave, seat):
            return
        with self._lock:
            seat.gone = True
            batch = seat.batch
            if batch is None or batch.leader is not None:
                return
            if batch.seats.pop(seat, seat) is None:
                batch.keys.difference_update(seat.keys)
            if not batch.seats:
                self._shut(batch)

    def _hand_over(self, batch: _Batch, seats: Sequence[Seat]) -> None:
        """Who is left of ``batch`` without its leader is another one: it goes at once, and nobody joins it.
        The lock is held."""
        rest = _Batch(batch.place, monotonic())
        for seat in seats:
            seat.batch = rest
            rest.keys.update(seat.keys)
            rest.seats[seat] = None

    def _shut(self, batch: _Batch) -> None:
        if self._open.get(batch.place) is batch:
            del self._open[batch.place]

    def _end(self, batch: _Batch, outcome: Any) -> None:
        """``batch`` has come to its ``outcome``. Only the first call counts."""
        if leavings.take(self._end, batch, outcome):
            return
        with self._lock:
            if batch.ended:
                return
            batch.ended = True
            self._shut(batch)
            leader = batch.leader
            others = [seat for seat in batch.seats if seat is not leader]
            if outcome is None:
                self._hand_over(batch, [seat for seat in others if not seat.gone])
        if leader is not None:
            for other in others:
                for one in other.riding:
                    one.waits_for.remove(leader.flight)
        if isinstance(outcome, Exception):
            batch.raised_at = outcome.__traceback__
            batch.outcome.set_exception(outcome)
        else:
            batch.outcome.set_result(outcome)
