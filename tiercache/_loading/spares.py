"""Spares: the values past their time that one loading call came across, and what it may do with them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Any

from tiercache._chain.answers import note
from tiercache._chain.core import Core
from tiercache._loading.staleness import Staleness
from tiercache._log import logger
from tiercache.entry import Entry

__all__ = ["ANY", "Spares", "due", "end_of", "pause"]

#: How long a loader is left alone at most, when it goes on failing while there is something else to serve.
_LONGEST_PAUSE = 30.0
_MOST_DOUBLINGS = 5


class Spares:
    """One call's stale values, by key. ``asked`` are the ``keys`` of the call with their duplicates, each of
    which counts."""

    def __init__(self, core: Core, staleness: Staleness, keys: Sequence[str], asked: Sequence[str]) -> None:
        self.asked = asked
        #: How often tiers had not answered when the call began.
        self.trouble = core.trouble()
        self._duplicates = len(asked) != len(keys)
        #: The keys of which some tier has a stale value, usable or not.
        self.stale: set[str] = set()
        self._core = core
        self._staleness = staleness
        self._refresh: dict[str, float] = {}
        #: What may be served in the place of a load: until when (monotonic: a wall clock that is set back
        #: must not make it live longer), the entry, and the name of its tier.
        self._fallbacks: dict[str, tuple[float, Entry[Any], str]] = {}
        self._began = monotonic()

    def asked_for(self, keys: Collection[str]) -> int:
        """How many of the keys asked for are among ``keys``."""
        return sum(key in keys for key in self.asked) if self._duplicates else len(keys)

    def serve(self, stale: Mapping[str, tuple[Entry[Any], str]]) -> dict[str, Any]:
        """Take ``stale`` into account; the values that are to be served at once."""
        if not stale:
            return {}
        self.stale |= stale.keys()
        staleness = self._staleness
        clock, pauses = self._core.stack.clock, self._core.space.flights.pauses
        now, wall = clock.monotonic(), clock.time()
        served: dict[str, Any] = {}
        for key, (entry, tier) in stale.items():
            age = wall - (wall if entry.fresh_until is None else entry.fresh_until)
            left = inf if entry.expires_at is None else entry.expires_at - wall
            if not left > 0:
                continue
            paused = pauses.find(key)[0] > now
            if age < staleness.stale_for:
                if not paused:
                    self._refresh[key] = ANY
            elif age < staleness.stale_if_error:
                until = now + min(left, staleness.stale_if_error - age)
                self._fallbacks[key] = until, entry, tier
                if not paused:
                    continue
            else:
                continue
            served[key] = entry.value
            note(self._core.stack, [key], tier)
        self._count(served)
        return served

    def to_refresh(self, found: Mapping[str, Entry[Any]]) -> dict[str, float]:
        """The keys whose value was served and is to be made anew, as `due` gives them: stale ones, and those
        of ``found`` whose time it is already."""
        wanted, self._refresh = self._refresh, {}
        if self._staleness.refresh_ahead:
            wanted |= due(self._core, self._staleness, {key: end_of(entry) for key, entry in found.items()})
        return wanted

    def in_reserve(self, missing: Sequence[str]) -> dict[str, float]:
        """The same of those of ``missing`` for which the call waits only until ``load_deadline``."""
        return {} if self._staleness.load_deadline is None else dict.fromkeys(self._good(missing), ANY)

    def patience(self, keys: Collection[str]) -> float | None:
        """For how many seconds more to wait for ``keys``; ``None``: until they are there."""
        deadline = self._staleness.load_deadline
        if deadline is None or len(self._good(keys)) < len(keys):
            return None
        return max(0.0, self._began + deadline - monotonic())

    def out_of_patience(self, keys: Collection[str]) -> dict[str, Any]:
        """The values to serve for ``keys``, since the load takes too long; of each that is still good."""
        return self._fall_back(self._good(keys))

    def instead(self, keys: Collection[str], error: Exception, *, led: bool) -> dict[str, Any]:
        """The values to serve because the loader of ``keys`` raised ``error``: which is raised if one of them
        has none. ``led``: this call led the load."""
        if len(self._good(keys)) < len(keys):
            raise error
        if led:
            pause(self._core, keys, error)
        return self._fall_back(keys)

    def _good(self, keys: Collection[str]) -> list[str]:
        """Those of ``keys`` for which there is something to serve instead of what a load makes."""
        if not self._fallbacks:
            return []
        now = self._core.stack.clock.monotonic()
        return [key for key in keys if self._fallbacks.get(key, _NOTHING)[0] > now]

    def _fall_back(self, keys: Collection[str]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key in keys:
            _, entry, tier = self._fallbacks[key]
            values[key] = entry.value
            note(self._core.stack, [key], tier)
        self._count(values)
        return values

    def _count(self, served: Collection[str]) -> None:
        if served:
            counters = self._core.stack.counters
            with counters.lock:
                counters.stale_served += self.asked_for(served)


_NOTHING = (-inf, None, "")
#: In the place of its end, for a key of which any fresh value that turns up will do.
ANY = -inf


def end_of(entry: Entry[Any]) -> float | None:
    """When ``entry`` stops being fresh, if ever."""
    return entry.expires_at if entry.fresh_until is None else entry.fresh_until


def due(core: Core, staleness: Staleness, ends: Mapping[str, float | None]) -> dict[str, float]:
    """The keys to make anew ahead of their time, of those that stop being fresh at ``ends``; each with its
    end, by which one that somebody else has made anew can be told."""
    flights = core.space.flights
    load_time = flights.load_time
    if not load_time:
        return {}
    clock = core.stack.clock
    now, wall = clock.monotonic(), clock.time()
    return {
        key: end
        for key, end in ends.items()
        if end is not None and staleness.due(end - wall, load_time) and flights.pauses.find(key)[0] <= now
    }


def pause(core: Core, keys: Iterable[str], error: Exception) -> None:
    """The loader of ``keys`` failed, and something else is served: leave it alone for a while.

    Not yet after the first failure, then for a second, and twice as long each time. So one that recovers is
    noticed at once, and one that goes on failing is not hammered.
    """
    now = core.stack.clock.monotonic()
    pauses = core.space.flights.pauses
    for key in keys:
        failures: int = pauses.find(key)[1] or 0
        seconds = 0.0 if not failures else min(2.0 ** min(failures - 1, _MOST_DOUBLINGS), _LONGEST_PAUSE)
        pauses.note(key, now + seconds, failures + 1)
    if core.stack.refresher.may_warn(now):
        # Not its message, which may hold keys or values.
        logger().warning("a loader failed (%s); values past their time are served", type(error).__name__)
