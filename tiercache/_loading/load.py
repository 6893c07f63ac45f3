"""Loading: what is in no tier comes from the user's loader, once however many callers wait for it.

Or else the callers get a value past its time, and the load runs behind them (`tiercache._loading.spares` says
when, `tiercache._loading.refresh` where).
"""

from __future__ import annotations

from collections.abc import Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from tiercache._chain.answers import Source, note
from tiercache._chain.core import Core
from tiercache._chain.leases import Sharing, leasing
from tiercache._consistency.flights import Flight, aboard
from tiercache._consistency.rings import Awaited
from tiercache._loading.gate import lending, places
from tiercache._loading.leading import Leading, to_load
from tiercache._loading.loaders import Load
from tiercache._loading.refresh import Refresh
from tiercache._loading.spares import Spares, due, pause
from tiercache._loading.staleness import Staleness
from tiercache._running.bridge import Runtime
from tiercache._running.owners import Owner, owned, thrown
from tiercache.entry import Entry
from tiercache.errors import ConfigError, LoadError

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Loading"]


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

    def load(
        self,
        runtime: Runtime,
        keys: Sequence[str],
        load: Load,
        *,
        asked: Sequence[str] | None = None,
    ) -> Coroutine[Any, Any, dict[str, Any]]:
        """The values of ``keys`` (no duplicates), from the tiers or else from the loader. ``asked``: the
        keys with their duplicates, which the chain counts."""
        coroutine = self._load(runtime, keys, load, asked=asked)
        lent = places(runtime)
        return lending(lent, coroutine) if lent else coroutine

    @owned
    async def _load(
        self,
        owner: Owner,
        runtime: Runtime,
        keys: Sequence[str],
        load: Load,
        *,
        asked: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        space = self._core.space
        epochs, flights = space.epochs, space.flights
        size = load.size or max(1, len(keys))
        spares = Spares(self._core, load.staleness, keys, keys if asked is None else asked)
        again = coalesced = False
        values: dict[str, Any] = {}
        missing: Sequence[str] = keys
        while missing:
            ticket = epochs.open_ticket()
            try:
                stale: dict[str, tuple[Entry[Any], str]] = {}
                found = (await self._core.lookup(runtime, missing, counted=not again, stale=stale)).objects
                late = {key: old for key, old in stale.items() if key not in found} if stale else stale
                served = spares.serve(late)
                if found or served:
                    values.update({key: entry.value for key, entry in found.items()} | served)
                    missing = [key for key in missing if key not in values]
                if not again:
                    hits = spares.asked_for(found) + spares.asked_for(served)
                    self._core.count(hits, len(spares.asked) - hits, len(missing))
                missing = to_load(self._core, missing)
                self._behind(runtime, spares.to_refresh(found), load, ticket, spares.stale)
                if not missing:
                    break
                slow = self._behind(runtime, spares.in_reserve(missing), load, ticket, spares.stale)
                wanted = [key for key in missing if key not in slow] if slow else missing
                led, joined = flights.join_or_lead(wanted, size, runtime, owner)
                # Between the look and the flight somebody else's flight may have ended: look again at
                # what changed in between, or the loader would be paid twice.
                changed = epochs.changed(ticket, missing)
            except GeneratorExit as error:
                thrown(error)
                raise
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
            behind: dict[Refresh, list[str]] = {}
            for key, refresh in slow.items():
                behind.setdefault(refresh, []).append(key)
            for refresh, wanted in behind.items():
                given, left = await self._await(runtime, refresh, wanted, spares)
                values.update(given)
                missing += left
            again = True
        return self._core.given(spares.asked, values)

    async def _lead(
        self, runtime: Runtime, led: Sequence[Flight], load: Load, changed: Collection[str], spares: Spares
    ) -> dict[str, Any]:
        """Lead the flights ``led``, one after the other; what they bring, or else what is served instead."""
        values: dict[str, Any] = {}
        try:
            with aboard(led):
                for flight in led:
                    try:
                        leading = Leading(
                            self._core,
                            flight,
                            load,
                            sharing=self._leases(load),
                            stale=spares.stale,
                            trouble=spares.trouble,
                        )
                        loaded = await leading.fly(runtime, changed)
                    except Exception as error:  # noqa: BLE001 - raised again unless there are old values
                        loaded = spares.instead(flight.keys, error, led=True)
                    if self._core.copies:
                        # Of mutable values not even the leader gets those that the others copy from.
                        loaded = {key: self._core.copied(value) for key, value in loaded.items()}
                    values.update(loaded)
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            for flight in led:
                if not flight.has_ended:  # not reached because an earlier batch failed
                    self._core.space.flights.give_up(flight)
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
        return await runtime.ended(future, seconds=seconds, awaited=awaited)

    def _leases(self, load: Load) -> Sharing | None:
        return self._sharing if load.staleness.shared else None

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

    @owned
    async def _refresh(
        self,
        owner: Owner,
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
            size = load.size or max(1, len(keys))
            refresh.lead(space.flights.join_or_lead(keys, size, runtime, owner)[0])
            with aboard(refresh.led):
                for flight in refresh.led:
                    leading = Leading(
                        self._core,
                        flight,
                        load,
                        sharing=self._leases(load),
                        stale=stale,
                        since=refresh.ticket,
                        ends=ends,
                    )
                    values = await leading.fly(runtime, ())
                    outcome.keys.update(flight.keys)
                    outcome.values.update(values)
        except BaseException as error:
            thrown(error)
            # Who waits is told, or it would load again at once; as it should where this was thrown away.
            if not refresh.over and not isinstance(error, GeneratorExit):
                outcome.error = error if isinstance(error, Exception) else _gave_up(error)
                if not self._core.stack.closed:
                    pause(self._core, [key for key in refresh.keys if key not in outcome.keys], outcome.error)
            if not isinstance(error, Exception):
                raise  # a cancelled task stays cancelled
        finally:
            refresh.end()

    def _refreshed(self, refresh: Refresh) -> None:
        self._core.space.flights.forget_refresh(refresh)
        self._core.space.epochs.close_ticket(refresh.ticket)


def _gave_up(error: BaseException) -> LoadError:
    """What those are told who wait for a refresh that ``error`` ended: raised in their threads and tasks, it
    would end these."""
    failure = LoadError(f"a refresh ended with {type(error).__name__}")
    failure.__cause__ = error
    return failure
