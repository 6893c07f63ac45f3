"""Loading: what is in no tier comes from the user's loader, once however many callers wait for it.

Or else the callers get a value past its time, and the load runs behind them (`tiercache._spares` says when,
`tiercache._refresh` where).
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

from tiercache._answers import Source, note, unnoted
from tiercache._bridge import Runtime
from tiercache._core import Core, check_bytes
from tiercache._epochs import holding
from tiercache._flights import Flight, aboard
from tiercache._journal import Fences
from tiercache._leases import Sharing, leasing
from tiercache._loaded import Answer
from tiercache._loaders import LoadMany
from tiercache._refresh import Refresh
from tiercache._rings import Awaited
from tiercache._spares import ANY, Spares, due, end_of, pause
from tiercache._staleness import NEVER_STALE, Staleness
from tiercache._storable import entries
from tiercache.entry import UNSET, Entry
from tiercache.errors import ConfigError, LoadError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Load", "Loading"]


_NO_ENDS: Mapping[str, float] = {}
#: How much the latest load counts in the mean of what loads take.
_WEIGHT = 0.25


@dataclass(slots=True)
class Load:
    """What a loading call asks for, besides its keys."""

    load_many: LoadMany
    ttl: float | None = None
    staleness: Staleness = NEVER_STALE
    batch_size: int | None = None


class Loading:
    """The loads of one view. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self._core = core
        member = leasing(core.members)
        self._sharing = None if member is None else Sharing(member)

    def check(self, options: Staleness) -> None:
        """Raise `ConfigError` if this chain cannot do what ``options`` say."""
        if options.shared and self._sharing is None:
            raise ConfigError(
                "lock: 'shared' takes a tier that keeps leases for several processes (disk, Redis, SQL), and "
                "this chain has none; leave it at 'process'"
            )

    async def load(
        self, runtime: Runtime, keys: Sequence[str], load: Load, *, asked: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """The values of ``keys`` (no duplicates), from the tiers or else from the loader. ``asked``: the
        keys with their duplicates, which the chain counts."""
        space = self._core.space
        epochs, flights = space.epochs, space.flights
        size = load.batch_size or max(1, len(keys))
        spares = Spares(self._core, load.staleness, keys, keys if asked is None else asked)
        again = coalesced = False
        values: dict[str, Any] = {}
        missing: Sequence[str] = keys
        while missing:
            ticket = epochs.open_ticket()
            try:
                stale: dict[str, tuple[Entry[Any], str]] = {}
                found = (await self._core.lookup(runtime, missing, counted=not again, stale=stale)).objects
                values.update((key, entry.value) for key, entry in found.items())
                served = spares.serve({key: old for key, old in stale.items() if key not in found})
                values.update(served)
                if not again:
                    hits = spares.asked_for(found) + spares.asked_for(served)
                    self._core.count(hits, len(spares.asked) - hits)
                missing = self._to_load([key for key in missing if key not in found and key not in served])
                self._behind(runtime, spares.to_refresh(found), load, ticket, spares.stale)
                if not missing:
                    break
                slow = self._behind(runtime, spares.in_reserve(missing), load, ticket, spares.stale)
                led, joined = flights.join_or_lead([key for key in missing if key not in slow], size, runtime)
                # Between the look and the flight somebody else's flight may have ended: look again at
                # what changed in between, or the loader would be paid twice.
                changed = epochs.changed(ticket, missing)
            finally:
                epochs.close_ticket(ticket)
            if joined and not coalesced:
                coalesced = True
                with self._core.stack.counters.lock:
                    self._core.stack.counters.coalesced += 1
            values.update(await self._lead(runtime, led, load, changed, spares))
            missing = []
            for flight, wanted in joined.items():
                given, left = await self._join(runtime, flight, wanted, spares)
                values.update(given)
                missing += left  # its leader gave up: lead it, or join who does
            for refresh in dict.fromkeys(slow.values()):
                wanted = [key for key, one in slow.items() if one is refresh]
                given, left = await self._await(runtime, refresh, wanted, spares)
                values.update(given)
                missing += left
            again = True
        return values

    async def _lead(
        self, runtime: Runtime, led: Sequence[Flight], load: Load, changed: Collection[str], spares: Spares
    ) -> dict[str, Any]:
        """Lead the flights ``led``, one after the other; what they bring, or else what is served instead."""
        values: dict[str, Any] = {}
        try:
            with aboard(led):
                for flight in led:
                    try:
                        loaded = await self._fly(runtime, flight, load, changed, spares.stale)
                    except Exception as error:  # noqa: BLE001 - raised again unless there are old values
                        loaded = spares.instead(flight.keys, error, led=True)
                    # Of mutable values not even the leader gets those that the others copy from.
                    values.update((key, self._core.copied(value)) for key, value in loaded.items())
        finally:
            for flight in led:
                self._core.space.flights.end(flight)  # those not reached because an earlier batch failed
        return values

    async def _join(
        self, runtime: Runtime, flight: Flight, wanted: list[str], spares: Spares
    ) -> tuple[dict[str, Any], list[str]]:
        """What somebody else's ``flight`` brings of the keys ``wanted``, and those to look for again."""
        patience = spares.patience(wanted)
        if patience is not None and not await self._ended(runtime, flight, flight.outcome, patience):
            given = spares.out_of_patience(wanted)
            return given, [key for key in wanted if key not in given]
        try:
            outcome = await self._core.space.flights.wait(flight, runtime)
        except Exception as error:  # noqa: BLE001 - raised again unless there are old values
            return spares.instead(wanted, error, led=False), []
        if outcome is None:
            return {}, wanted
        given = {key: self._core.copied(outcome[key]) for key in wanted if key in outcome}
        note(self._core.stack, given, Source.FLIGHT)
        return given, []

    async def _await(
        self, runtime: Runtime, refresh: Refresh, wanted: list[str], spares: Spares
    ) -> tuple[dict[str, Any], list[str]]:
        """The same of a refresh, for values that this call has others for."""
        ended = await self._ended(runtime, refresh, refresh.ended, spares.patience(wanted) or 0.0)
        if refresh.outcome.dropped or not ended:
            given = spares.out_of_patience(wanted)
            return given, [key for key in wanted if key not in given]
        outcome = refresh.outcome
        given = {key: self._core.copied(outcome.values[key]) for key in wanted if key in outcome.values}
        note(self._core.stack, given, Source.LOADER)
        left = [key for key in wanted if key not in outcome.keys]
        if left and outcome.error is not None:  # an earlier batch may have succeeded
            return given | spares.instead(left, outcome.error, led=False), []
        return given, left

    async def _ended(self, runtime: Runtime, awaited: Awaited, future: Future[Any], seconds: float) -> bool:
        """Wait for ``awaited`` so long, unless it cannot end meanwhile; whether it has."""
        if self._core.space.flights.out_of_reach(awaited, runtime):
            seconds = 0.0
        return await runtime.ended(future, seconds=seconds, loop=awaited.loop)

    # -- behind the callers ------------------------------------------------------------------------

    def ahead(self, runtime: Runtime, keys: Sequence[str], load: Load) -> None:
        """The memory tier's own road had ``keys``: refresh those whose time it is already."""
        top = self._core.members[0].fast
        if top is None:
            return
        late = due(self._core, load.staleness, {key: top.fresh_until(key) for key in keys})
        if late:
            epochs = self._core.space.epochs
            ticket = epochs.open_ticket()
            try:
                self._behind(runtime, late, load, ticket, ())
            finally:
                epochs.close_ticket(ticket)

    def _behind(
        self, runtime: Runtime, ends: Mapping[str, float], load: Load, ticket: int, stale: Collection[str]
    ) -> dict[str, Refresh]:
        """Have the keys of ``ends``, which `due` describes, loaded behind the caller; the refreshes of those
        that nobody else loads, by key."""
        if not ends:
            return {}
        space = self._core.space
        self._core.stack.refresher.sweep()  # of those whose loop stands still, others are to take over
        new, running = space.flights.ask_refresh(
            ends, lambda mine: Refresh(mine, space.epochs.share_ticket(ticket), self._refreshed)
        )
        if new is not None:
            run = partial(self._refresh, refresh=new, load=load, ends=ends, stale=frozenset(stale))
            if not self._core.stack.refresher.start(runtime, new, run):
                new.outcome.dropped = True
                new.end()
                with self._core.stack.counters.lock:
                    self._core.stack.counters.refreshes_dropped += len(new.keys)
            running |= dict.fromkeys(new.keys, new)
        return running

    async def _refresh(
        self,
        runtime: Runtime,
        *,
        refresh: Refresh,
        load: Load,
        ends: Mapping[str, float],
        stale: Collection[str],
    ) -> None:
        """Run ``refresh``: load what nobody has loaded, written, or begun to load since it was asked for."""
        space, outcome = self._core.space, refresh.outcome
        try:
            if refresh.over:
                return  # its loop had stood still, and it was given up
            changed = set(space.epochs.changed(refresh.ticket, refresh.keys))
            keys = [key for key in refresh.keys if key not in changed]
            size = load.batch_size or max(1, len(keys))
            refresh.lead(space.flights.join_or_lead(keys, size, runtime)[0])
            with aboard(refresh.led):
                for flight in refresh.led:
                    values = await self._fly(runtime, flight, load, (), stale, refresh.ticket, ends)
                    outcome.keys.update(flight.keys)
                    outcome.values.update(values)
        except BaseException as error:
            if not refresh.over:  # who waits is told, or it would load again at once
                outcome.error = error if isinstance(error, Exception) else _gave_up(error)
                pause(self._core, [key for key in refresh.keys if key not in outcome.keys], outcome.error)
            if not isinstance(error, Exception):
                raise  # a cancelled task stays cancelled
        finally:
            refresh.end()

    def _refreshed(self, refresh: Refresh) -> None:
        self._core.space.flights.forget_refresh(refresh)
        self._core.space.epochs.close_ticket(refresh.ticket)

    # -- one flight --------------------------------------------------------------------------------

    async def _fly(
        self,
        runtime: Runtime,
        flight: Flight,
        load: Load,
        changed: Collection[str],
        stale: Collection[str],
        since: Any = None,
        ends: Mapping[str, float] = _NO_ENDS,
    ) -> dict[str, Any]:
        """Lead ``flight``: load, store, and tell those who wait. Looks again for those of its keys that
        ``changed``. Of ``stale`` keys there are old values. ``since``: the ticket of when it was asked for,
        if that was not just now. ``ends``: those of the values that it is to replace."""
        space = self._core.space
        ticket = space.epochs.open_ticket() if since is None else space.epochs.share_ticket(since)
        values: dict[str, Any] | None = None
        try:
            keys = set(flight.keys)
            wanted = [key for key in changed if key in keys]
            known: dict[str, Any] = {}
            asked: Sequence[str] = flight.keys
            if wanted:
                known = await self._look(runtime, wanted)
                asked = self._to_load([key for key in flight.keys if key not in known])
            left = set(asked)

            async def look(part: list[str]) -> dict[str, Any]:
                found = await self._look_again(runtime, part, ends)
                known.update(found)
                left.difference_update(found)
                return found

            async def make(part: list[str]) -> dict[str, Any]:
                nonlocal values
                fences = await self._core.fences(runtime, part)
                answer = await self._call(runtime, load.load_many, part)
                known.update(answer.values)
                left.difference_update(part)
                if not left:
                    values = known  # complete, also if storing the last of them is interrupted
                gone = [key for key in part if key in stale and key not in answer.values]
                await self._store(runtime, answer, gone, load, ticket, fences)
                return answer.values

            if asked and load.staleness.shared and self._sharing is not None:
                await self._sharing.load(runtime, asked, look, make)
            elif asked:
                await make(list(asked))
            values = known
        except Exception as error:
            space.flights.end(flight, error=error)
            raise
        finally:
            # Without values this hands over: the leader itself was cancelled or interrupted.
            space.flights.end(flight, values)
            space.epochs.close_ticket(ticket)
        return values

    async def _look(self, runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        """The values of ``keys`` that are there: a second look, counted nowhere."""
        found = (await self._core.lookup(runtime, keys, counted=False)).objects
        return {key: entry.value for key, entry in found.items()}

    async def _look_again(
        self, runtime: Runtime, keys: list[str], ends: Mapping[str, float]
    ) -> dict[str, Any]:
        """The same with the leases of ``keys`` in hand. Where a value that is still fresh is to be replaced,
        only one that ends later than it will do: which the tiers above may not have heard of."""
        ahead = [key for key in keys if ends.get(key, ANY) != ANY]
        found = await self._look(runtime, [key for key in keys if key not in ahead] if ahead else keys)
        if ahead and self._sharing is not None:
            hits = await self._core.lookup_in(runtime, self._sharing.member, ahead)
            for key, entry in hits.objects.items():
                end = end_of(entry)
                if end is None or end > ends[key]:
                    found[key] = entry.value
        return found

    async def _call(self, runtime: Runtime, load_many: LoadMany, asked: list[str]) -> Answer:
        start, clock = perf_counter(), self._core.stack.clock
        begun = clock.monotonic()
        try:
            with unnoted():
                answer = Answer.of(await load_many(runtime, asked))
            note(self._core.stack, answer.values, Source.LOADER)
            if self._core.codec is None:
                for value in answer.values.values():
                    check_bytes(value)
            flights = self._core.space.flights
            seconds = clock.monotonic() - begun
            mean = flights.load_time
            flights.load_time = mean + (seconds - mean) * _WEIGHT if mean else seconds
        finally:
            failed = sys.exc_info()[0] is not None
            counters = self._core.stack.counters
            with counters.lock:
                counters.loads += len(asked)
                counters.load_seconds += perf_counter() - start
                if failed:
                    counters.load_errors += len(asked)
        return answer

    async def _store(
        self,
        runtime: Runtime,
        answer: Answer,
        gone: Sequence[str],
        load: Load,
        ticket: int,
        fences: Fences,
    ) -> None:
        """Store what a loader made, but for keys written since ``ticket`` in this process and since the
        ``fences`` were opened in others, and drop the old values of those that are ``gone``. Never raises
        because a tier or a codec failed: the values were paid for."""
        keys = [*answer.values, *{*answer.absent, *gone}]
        if not keys:
            return
        epochs, flights = self._core.space.epochs, self._core.space.flights
        fill = epochs.begin_fill(ticket, keys, runtime)
        try:
            self._core.suppressed(len(keys) - len(fill.keys))
            flights.pauses.drop(fill.keys)
            flights.absent.drop(fill.keys)
            good = set(fill.keys)
            # Before anything is awaited: once a write has overtaken this, nothing may be noted any more.
            self._remember_absent({key: ttl for key, ttl in answer.absent.items() if key in good}, load.ttl)
            batch = entries(self._core, answer, fill.keys, load.ttl, load.staleness)
            gone = [key for key in gone if key in good]
            with holding(fill):
                if batch.objects:
                    await self._core.write_all(runtime, batch, fill, fences)
                if gone:
                    for member in reversed(self._core.members):
                        await member.delete(runtime, gone, counted=False)
        except GeneratorExit:  # its event loop is no more, and nothing can be awaited
            epochs.throw_away(fill)
            raise
        finally:
            try:
                if not fill.thrown_away:
                    await self._core.undo_superseded(runtime, fill, self._core.members)
            finally:
                epochs.end_fill(fill, stored=True)

    def _to_load(self, missing: Sequence[str]) -> Sequence[str]:
        """``missing`` without the keys that are known to have no value."""
        absent = self._core.space.flights.absent
        if not missing or not len(absent):
            return missing
        now, name = self._core.stack.clock.monotonic(), self._codec_name
        notes = ((key, *absent.find(key)) for key in missing)
        return [key for key, until, mark in notes if not (until > now and mark == name)]

    def _remember_absent(self, absent: Mapping[str, Any], default: float | None) -> None:
        now = self._core.stack.clock.monotonic() if absent else 0.0
        for key, ttl in absent.items():
            seconds = default if ttl is UNSET else ttl
            until = inf if seconds is None else now + seconds
            self._core.space.flights.absent.note(key, until, self._codec_name)

    @property
    def _codec_name(self) -> str:
        return "bytes" if self._core.codec is None else self._core.codec.name


def _gave_up(error: BaseException) -> LoadError:
    """What those are told who wait for a refresh that ``error`` ended: raised in their threads and tasks, it
    would end these."""
    failure = LoadError(f"a refresh ended with {type(error).__name__}")
    failure.__cause__ = error
    return failure
