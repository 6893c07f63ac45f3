"""Loading: what is in no tier comes from the user's loader, once however many callers wait for it."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from time import perf_counter
from typing import Any

from tiercache._answers import Source, note, unnoted
from tiercache._batch import Batch
from tiercache._bridge import Runtime
from tiercache._core import Core, check_bytes
from tiercache._epochs import holding
from tiercache._flights import Flight, aboard
from tiercache._log import logger
from tiercache.errors import CodecError, LoadError

__all__ = ["Loading", "many", "single"]

#: Calls a loader for some keys and gives back the values there are.
LoadMany = Callable[[Runtime, list[str]], Awaitable[dict[str, Any]]]


class Loading:
    """The loads of one view. Thread-safe."""

    def __init__(self, core: Core) -> None:
        self._core = core

    async def load(
        self,
        runtime: Runtime,
        keys: Sequence[str],
        load_many: LoadMany,
        *,
        ttl: float | None,
        batch_size: int | None,
        asked: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """The values of ``keys`` (no duplicates), from the tiers or else from ``load_many``. ``asked``:
        the keys with their duplicates, which the chain counts."""
        space = self._core.space
        epochs, flights = space.epochs, space.flights
        size = batch_size or max(1, len(keys))
        again = coalesced = False
        values: dict[str, Any] = {}
        missing: Sequence[str] = keys
        while missing:
            ticket = epochs.open_ticket()
            try:
                found = (await self._core.lookup(runtime, missing, counted=not again)).objects
                values.update((key, entry.value) for key, entry in found.items())
                if not again:
                    every = keys if asked is None else asked
                    hits = len(found) if len(every) == len(keys) else sum(key in found for key in every)
                    self._core.count(hits, len(every) - hits)
                missing = [key for key in missing if key not in found]
                led, joined = flights.join_or_lead(missing, size, runtime)
                # Between the look and the flight somebody else's flight may have ended: look again at
                # what changed in between, or the loader would be paid twice.
                changed = epochs.changed(ticket, missing)
            finally:
                epochs.close_ticket(ticket)
            if joined and not coalesced:
                coalesced = True
                with self._core.stack.counters.lock:
                    self._core.stack.counters.coalesced += 1
            try:
                with aboard(led):
                    for flight in led:
                        loaded = await self._fly(runtime, flight, load_many, ttl, changed)
                        # Of mutable values not even the leader gets those that the others copy from.
                        values.update((key, self._core.copied(value)) for key, value in loaded.items())
            finally:
                for flight in led:
                    flights.end(flight)  # those not reached because an earlier batch failed
            missing = []
            for flight, wanted in joined.items():
                outcome = await flights.wait(flight, runtime)
                if outcome is None:
                    missing += wanted  # its leader gave up: lead it, or join who does
                    continue
                given = [key for key in wanted if key in outcome]
                values.update((key, self._core.copied(outcome[key])) for key in given)
                note(self._core.stack, given, Source.FLIGHT)
            again = True
        return values

    async def _fly(
        self, runtime: Runtime, flight: Flight, load_many: LoadMany, ttl: float | None, changed: list[str]
    ) -> dict[str, Any]:
        """Lead ``flight``: load, store, and tell those who wait."""
        space = self._core.space
        ticket = space.epochs.open_ticket()
        values: dict[str, Any] | None = None
        try:
            keys = set(flight.keys)
            wanted = [key for key in changed if key in keys]
            known: dict[str, Any] = {}
            if wanted:
                found = (await self._core.lookup(runtime, wanted, counted=False)).objects
                known = {key: entry.value for key, entry in found.items()}
            asked = [key for key in flight.keys if key not in known]
            loaded = await self._call(runtime, load_many, asked) if asked else {}
            values = known | loaded
            if loaded:
                await self._store(runtime, loaded, ttl, ticket)
        except Exception as error:
            space.flights.end(flight, error=error)
            raise
        finally:
            # Without values this hands over: the leader itself was cancelled or interrupted.
            space.flights.end(flight, values)
            space.epochs.close_ticket(ticket)
        return values

    async def _call(self, runtime: Runtime, load_many: LoadMany, asked: list[str]) -> dict[str, Any]:
        start = perf_counter()
        try:
            with unnoted():
                loaded = await load_many(runtime, asked)
            note(self._core.stack, loaded, Source.LOADER)
            if self._core.codec is None:
                for value in loaded.values():
                    check_bytes(value)
        finally:
            failed = sys.exc_info()[0] is not None
            counters = self._core.stack.counters
            with counters.lock:
                counters.loads += len(asked)
                counters.load_seconds += perf_counter() - start
                if failed:
                    counters.load_errors += len(asked)
        return loaded

    async def _store(self, runtime: Runtime, values: dict[str, Any], ttl: float | None, ticket: int) -> None:
        """Store what a loader made, but for keys written since ``ticket``. Never raises because a tier
        or a codec failed: the values were paid for."""
        epochs = self._core.space.epochs
        fill = epochs.begin_fill(ticket, values, runtime)
        try:
            self._core.suppressed(len(values) - len(fill.keys))
            batch = self._storable({key: values[key] for key in fill.keys}, ttl)
            if batch.objects:
                with holding(fill):
                    await self._core.write_all(runtime, batch, fill)
        finally:
            try:
                await self._core.undo_superseded(runtime, fill, self._core.members)
            finally:
                epochs.end_fill(fill, stored=True)

    def _storable(self, values: dict[str, Any], ttl: float | None) -> Batch:
        try:
            return self._core.batch(values, ttl)
        except CodecError as error:
            if len(values) == 1:
                counters = self._core.stack.counters
                with counters.lock:
                    counters.unstorable += 1
                # Not the error's message: that is the codec's, and may hold the value.
                logger().warning(
                    "a loaded %s cannot be stored by the codec %r (%s), and is loaded anew each time",
                    *(type(value).__name__ for value in values.values()),
                    getattr(self._core.codec, "name", None),
                    type(error).__name__,
                )
                return Batch({}, self._core.codec)
        batch = Batch({}, self._core.codec, {})
        for key, value in values.items():
            batch = batch.merged(self._storable({key: value}, ttl))
        return batch


def single(loader: Callable[[str], Any]) -> LoadMany:
    """A loader of one key, as a loader of many that is only ever asked for one."""

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        value = await runtime.call(loader, keys[0])
        return {} if value is None else {keys[0]: value}

    return load


def many(loader: Callable[[list[str]], Any]) -> LoadMany:
    """A loader of many keys, its answer checked."""

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        answer = await runtime.call(loader, list(keys))
        if isinstance(answer, Mapping):
            pairs = [(key, answer.get(key)) for key in keys]
        else:
            try:
                given = None if isinstance(answer, str | bytes | AbstractSet) else list(answer)
            except TypeError:
                given = None
            if given is None:
                raise LoadError(
                    f"the loader returned {type(answer).__name__}; it must return a sequence of values in "
                    f"the order of its keys, or a mapping"
                )
            if len(given) != len(keys):
                raise LoadError(f"the loader was asked for {len(keys)} keys and returned {len(given)} values")
            pairs = list(zip(keys, given, strict=True))
        return {key: value for key, value in pairs if value is not None}

    return load
