"""Leading one flight: call the loader for what is missing, store what it gives, tell those who wait.

A plain loader that an async caller was waiting for runs on in its thread when that caller is cancelled, and
what it makes was paid for: the flight goes on behind the caller, with all who wait for it, and ends as it
would have. If that is something to be awaited, another of them leads, as after an async loader.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any

from tiercache._chain.answers import Source, note, unnoted
from tiercache._chain.core import Core
from tiercache._chain.journal import Fences
from tiercache._chain.leases import Sharing
from tiercache._consistency.flights import Flight, Flights
from tiercache._consistency.operations import holding
from tiercache._loading.attempts import attempt
from tiercache._loading.batches import Seat, may_gather, part
from tiercache._loading.loaded import Answer
from tiercache._loading.loaders import Load, LoadMany, many
from tiercache._loading.pace import UNPACED
from tiercache._loading.pacing import Texts, paced
from tiercache._loading.sending import joint_of, sent
from tiercache._loading.spares import ANY, end_of
from tiercache._loading.storable import entries, tell_too_large
from tiercache._running.bridge import BLOCKING, LeftRunning, Resumed, Runtime, Unfinished, drive
from tiercache._running.futures import in_thread
from tiercache._running.owners import Owner, owned, thrown
from tiercache._running.watching import Watch, watched
from tiercache.entry import UNSET, Entry

__all__ = ["Leading", "note_load_time", "to_load"]

_NO_ENDS: Mapping[str, float] = {}
#: How much the latest load counts in the mean of what loads take.
_WEIGHT = 0.25


class Leading:
    """One flight, for its leader. ``sharing`` has the leases, if it is to lead for other processes too. Of
    ``stale`` keys there are old values. ``since``: the ticket of when the load was asked for, if that was not
    just now. ``ends``: those of the values that it is to replace. ``trouble``: how often tiers had not
    answered before they were asked for the keys; ``None``: they hold old values."""

    def __init__(
        self,
        core: Core,
        flight: Flight,
        load: Load,
        *,
        sharing: Sharing | None,
        stale: Collection[str],
        since: Any = None,
        ends: Mapping[str, float] = _NO_ENDS,
        trouble: int | None = None,
    ) -> None:
        self._core = core
        self._flight = flight
        self._load = load
        self._sharing = sharing
        self._stale = stale
        self._ends = ends
        self._trouble = trouble
        #: How long the latest call of the loader took.
        self._took: float | None = None
        epochs = core.space.epochs
        self._ticket = epochs.open_ticket() if since is None else epochs.share_ticket(since)
        #: What there is by now, and the keys that are still to be found or loaded.
        self._known: dict[str, Any] = {}
        self._left: set[str] = set()
        #: All there is, once nothing is left.
        self._values: dict[str, Any] | None = None
        #: When the call of the loader that is going on began.
        self._begun: tuple[float, float] | None = None
        #: What an observer is told of it by.
        self._watch: Watch | None = None
        #: Where it is one of several that one call of the loader serves.
        self._seat: Seat | None = None
        #: Whether the loader was called at all.
        self._attempted = False

    async def fly(self, runtime: Runtime, changed: Collection[str]) -> dict[str, Any]:
        """Load, store, and tell those who wait. Looks again for those of the keys that ``changed``."""
        flight = self._flight
        error: Exception | None = None
        try:
            asked: Sequence[str] = flight.keys
            wanted = _of(changed, asked) if changed else []
            if wanted:
                self._known = await self._look(runtime, wanted)
                asked = to_load(self._core, [key for key in flight.keys if key not in self._known])
            self._left = set(asked)
            if asked and self._sharing is not None:
                await self._sharing.load(
                    runtime, asked, partial(self._find, runtime), partial(self._make, runtime)
                )
            elif asked:
                await self._make(runtime, list(asked))
            self._values = self._known
        except LeftRunning as left:
            raise left.cancelled from None
        except Exception as failure:
            error = failure
            raise
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            # Without values this hands over: the leader itself was cancelled or interrupted.
            if not flight.goes_on:
                self._end(error)
        return self._values

    async def bring(self, runtime: Runtime, key: str, value: Any) -> Any:
        """Store ``value``, which the loader returned for the only ``key``, and tell those who wait; what they
        get of it."""
        self._left = {key}
        try:
            await self._keep(runtime, [key], Answer.of({key: value}), Fences())
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            self._end(None)
        return self._known.get(key)

    def _end(self, error: Exception | None) -> None:
        self._core.space.flights.end(self._flight, self._values, error)
        self._core.space.epochs.close_ticket(self._ticket)

    # -- what is missing ---------------------------------------------------------------------------

    async def _look(self, runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        """The values of ``keys`` that are there: a second look, counted nowhere."""
        found = (await self._core.lookup(runtime, keys, counted=False)).objects
        return {key: entry.value for key, entry in found.items()}

    async def _look_again(self, runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        """The same with the leases of ``keys`` in hand. Where a value that is still fresh is to be replaced,
        only one that ends later than it will do: which the tiers above may not have heard of."""
        ends = self._ends

        def is_newer(key: str, entry: Entry[Any]) -> bool:
            end = end_of(entry)
            return end is None or end > ends[key]

        ahead = [key for key in keys if ends.get(key, ANY) != ANY]
        found = await self._look(runtime, [key for key in keys if key not in ahead] if ahead else keys)
        if ahead and self._sharing is not None:
            hits = await self._core.lookup_in(runtime, self._sharing.member, ahead, is_newer)
            found |= {key: entry.value for key, entry in hits.objects.items()}
        return found

    # -- what is made ------------------------------------------------------------------------------

    async def _find(self, runtime: Runtime, part: list[str]) -> dict[str, Any]:
        found = await self._look_again(runtime, part)
        self._known.update(found)
        self._left.difference_update(found)
        return found

    async def _make(self, runtime: Runtime, part: list[str]) -> dict[str, Any]:
        fences = await self._core.fences(runtime, part)
        try:
            answer = await self._call(runtime, part)
        except LeftRunning as left:
            self._go_on(part, fences, left)
            raise
        await self._keep(runtime, part, answer, fences)
        return answer.values

    def _go_on(self, part: list[str], fences: Fences, left: LeftRunning) -> None:
        """The caller was cancelled: wait for the loader, and go on from there, behind it."""

        async def go_on() -> None:
            error: Exception | None = None
            try:
                await self._keep(BLOCKING, part, await self._call(Resumed(left), part), fences)
            except Exception as failure:  # noqa: BLE001 - handed to those who wait
                error = failure
            except Unfinished:
                pass  # nothing to hand on: one of those who wait leads
            finally:
                self._end(error)

        flight = self._flight
        owner = Owner()
        coroutine = owner.own(go_on())
        before = flight.loop, flight.owner
        flight.owner, flight.loop, flight.goes_on = owner, None, True
        try:
            self._core.stack.refresher.went_on(flight, in_thread(lambda: drive(coroutine)))
        except RuntimeError as error:  # no more threads: what the loader makes is lost
            flight.goes_on = False
            flight.loop, flight.owner = before
            left.lost(error)
            coroutine.close()

    async def _call(self, runtime: Runtime, asked: list[str]) -> Answer:
        clock = self._core.stack.clock
        self._begun = start, begun = self._begun or (perf_counter(), clock.monotonic())
        try:
            with unnoted():
                ask = self._attempt if self._load.pace is UNPACED else self._paced
                given = await ask(runtime, asked)
                answer = Answer.of(part(given, asked) if self._load.apart else given)
            note(self._core.stack, answer.values, Source.LOADER)
        except (LeftRunning, Unfinished, GeneratorExit):  # to be counted when it ends, or by nobody
            raise
        except BaseException as error:
            if self._attempted or isinstance(error, Exception):  # or it was cancelled before its turn
                self._count(asked, start, failed=True)
            raise
        self._took = clock.monotonic() - begun
        note_load_time(self._core.space.flights, self._took)
        self._count(asked, start, failed=False)
        return answer

    async def _paced(self, runtime: Runtime, asked: list[str]) -> dict[str, Any]:
        """The same as `_attempt`, at the pace that is asked for: at its turn, with others, and again."""
        pace, group = self._load.pace, self._load.group
        if not pace.window or group is None or not may_gather(runtime, self._load.load_many):
            return await self._run(runtime, [Seat(asked, self._load.load_many, self._flight)])
        if self._core.stack.books is not None:  # of one call there is one account
            group = group, self._core.path, self._core.model
        if self._seat is None or not isinstance(runtime, Resumed):  # leases may come for a part of the keys
            self._seat = Seat(asked, self._load.load_many, self._flight)
        batches = self._core.stack.batches
        alike = group, pace.rate, pace.gate, pace.retry  # one of them makes the call, at his own pace
        return await batches.load(runtime, alike, pace.window, pace.most, self._seat, self._run)

    async def _run(self, runtime: Runtime, seats: Sequence[Seat]) -> dict[str, Any]:
        """Call the loader for all of ``seats``, at its pace."""
        keys = [key for seat in seats for key in seat.keys]

        def texts() -> list[str]:
            return [text for seat in seats for text in sent(seat.loader, seat.keys)]

        load_many = self._load.load_many
        told = joint_of(getattr(seats[0].loader, "__wrapped__", None)) if len(seats) > 1 else None
        if told is not None:
            together = told.join([(seat.loader.__wrapped__, seat.keys) for seat in seats])
            load_many = many(together, self._core.stack.told)

        async def attempted(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
            return await self._attempt(runtime, keys, load_many, texts)

        stack = self._core.stack
        check = None if stack.books is None else stack.books.check
        return await paced(
            runtime, stack.clock, self._load.pace, attempted, keys, texts, check, stack.closing
        )

    async def _attempt(
        self,
        runtime: Runtime,
        asked: list[str],
        load_many: LoadMany | None = None,
        texts: Texts | None = None,
    ) -> dict[str, Any]:
        """One call of the loader, or of the ``load_many`` of several, if the budget allows it. The ledger
        counts it, and an observer is told of it, until the loader ends: also where its caller was cancelled
        before. ``texts`` are what is sent, if that is not what the loader itself sends."""
        self._attempted = True
        own = load_many = load_many or self._load.load_many
        if self._core.stack.observer is not None:
            load_many = partial(self._observed, load_many)
        try:
            return await attempt(self._core, runtime, load_many, asked, texts or partial(sent, own, asked))
        except LeftRunning as left:
            left.lost = partial(self._lost, left.call)
            raise

    async def _observed(self, load_many: LoadMany, runtime: Runtime, asked: list[str]) -> dict[str, Any]:
        observer = self._core.stack.observer
        assert observer is not None  # noqa: S101 - it has been looked for
        if self._watch is None or self._watch.over:
            self._watch = Watch(partial(observer.load, behind=self._ends is not _NO_ENDS))
        self._watch.begin(len(asked))
        return await watched(self._watch, load_many(runtime, asked))

    def _lost(self, call: Any, error: BaseException) -> None:
        """Nobody will hear how the ``call`` of the loader that was left running ends."""
        if self._watch is not None:
            self._watch.end(error)
        if call is not None:
            call.broken_off(self._core, call.seconds)

    def _count(self, asked: Collection[str], start: float, *, failed: bool) -> None:
        self._begun = None
        counters = self._core.stack.counters
        with counters.lock:
            counters.loads += len(asked)
            counters.took(perf_counter() - start)
            if failed:
                counters.load_errors += len(asked)

    async def _keep(self, runtime: Runtime, part: list[str], answer: Answer, fences: Fences) -> None:
        self._known.update(answer.values)
        self._left.difference_update(part)
        if not self._left:
            self._values = self._known  # complete, also if storing the last of them is interrupted
        gone = [key for key in part if key in self._stale and key not in answer.values] if self._stale else []
        if answer.values or answer.absent or gone:
            await self._store(runtime, answer, gone, fences)

    @owned
    async def _store(
        self, owner: Owner, runtime: Runtime, answer: Answer, gone: Sequence[str], fences: Fences
    ) -> None:
        """Store what a loader made, but for keys written since its ticket in this process and since the
        ``fences`` were opened in others, and drop the old values of those that are ``gone``. Never raises
        because a tier or a codec failed: the values were paid for."""
        keys = [*answer.values, *{*answer.absent, *gone}]
        epochs, flights, ttl = self._core.space.epochs, self._core.space.flights, self._load.ttl
        fill = epochs.begin_fill(self._ticket, keys, runtime, owner)
        try:
            self._core.suppressed(len(keys) - len(fill.keys))
            flights.pauses.drop(fill.keys)
            flights.absent.drop(fill.keys)
            good = set(fill.keys)
            if answer.absent:
                # Before anything is awaited: once a write has overtaken this, nothing may be noted any more.
                known = {key: ttl for key, ttl in answer.absent.items() if key in good}
                remember_absent(self._core, known, ttl)
            batch = entries(self._core, answer, fill.keys, self._load)
            gone = [key for key in gone if key in good]
            with holding(fill):
                if batch.objects:
                    above = self._core.withheld(self._load.admission.above(batch.objects, self._took))
                    old = self._old(above) if above else above
                    taken = await self._core.write_all(runtime, batch, fill, fences, above, old)
                    tell_too_large(self._core, batch, taken, self._load)
                if gone:
                    for member in reversed(self._core.members):
                        await member.delete(runtime, gone, counted=False)
        except GeneratorExit as error:  # its event loop is no more, and nothing can be awaited
            thrown(error)
            epochs.throw_away(fill)
            raise
        finally:
            try:
                if not fill.thrown_away:
                    await self._core.undo_superseded(runtime, fill, self._core.members)
            finally:
                epochs.end_fill(fill, stored=True)

    def _old(self, keys: Collection[str]) -> Collection[str]:
        """Those of ``keys`` of which tiers may hold older values. After a miss in all of them none does,
        unless one of them had not answered."""
        if self._trouble is None or self._trouble != self._core.trouble():
            return keys
        return frozenset(key for key in keys if key in self._stale)


def note_load_time(flights: Flights, seconds: float) -> None:
    """A load took ``seconds``."""
    mean = flights.load_time
    flights.load_time = mean + (seconds - mean) * _WEIGHT if mean else seconds


def _of(some: Collection[str], keys: Sequence[str]) -> list[str]:
    among = set(keys)
    return [key for key in some if key in among]


def to_load(core: Core, missing: Sequence[str]) -> Sequence[str]:
    """``missing`` without the keys that are known to have no value."""
    absent = core.space.flights.absent
    if not missing or not len(absent):
        return missing
    now, name = core.stack.clock.monotonic(), _codec_name(core)
    notes = ((key, *absent.find(key)) for key in missing)
    return [key for key, until, mark in notes if not (until > now and mark == name)]


def remember_absent(core: Core, absent: Mapping[str, Any], default: float | None) -> None:
    """Note that the keys of ``absent`` have no value, each for as long as its loader said."""
    now = core.stack.clock.monotonic() if absent else 0.0
    for key, ttl in absent.items():
        seconds = default if ttl is UNSET else ttl
        until = inf if seconds is None else now + seconds
        core.space.flights.absent.note(key, until, _codec_name(core))


def _codec_name(core: Core) -> str:
    return "bytes" if core.codec is None else core.codec.name
