"""What the processes that share a cache may be given, by its promises: the oracle of a model.

A cache may forget, and it must never lie. So for each name and each process there is a set of values that it
may be given, besides nothing. A value leaves the set when it is overwritten, deleted or cleared, and it is
over at its end: by the wall clock in what processes share, by the monotonic clock in memory. The memory tier
of another process may hold what was ended for as long as its cap.

Where the journal was lost with its database, only the times of entries tell what is too old, by clocks that
are up to a minute apart: what was written by a clock that was set back since by more may be given still.

Who ended a value may have been told that it holds for this process alone (`WriteError`, or the disk tier
named among those that failed). Then other processes may be given it, and those to come.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

from tiercache.testing import FakeClock

__all__ = ["Name", "Promises", "Value"]

#: Seconds; as `journal.md` allows for where the journal is lost.
CLOCKS_APART = 60.0

Name: TypeAlias = tuple[int, str]  # the number of a view, and a key


@dataclass(frozen=True, eq=False, slots=True)
class Value:
    """One that was written or loaded once; no other has the same bytes."""

    data: bytes
    life: float  # seconds
    written_at: float  # Unix seconds
    expires_at: float


class Promises:
    """``cap``: the seconds that a memory tier holds a value at most; 0: there is none."""

    def __init__(self, clock: FakeClock, processes: str, cap: float) -> None:
        self._clock = clock
        self._processes = processes
        self._cap = cap
        self._values: dict[tuple[Name, bytes], Value] = {}
        #: What a process may be given by the tiers that all share.
        self._shared: dict[tuple[str, Name], set[Value]] = defaultdict(set)
        #: What the one that takes its place may be given besides.
        self._later: dict[tuple[str, Name], set[Value]] = defaultdict(set)
        #: What its memory may hold, and until when on the monotonic clock.
        self._memory: dict[tuple[str, Name], dict[Value, float]] = defaultdict(dict)
        #: The earliest time by the wall clock since the journal may be lost.
        self._lost_at = inf

    def value(self, data: bytes, life: float | None) -> Value:
        """A new one, from now on."""
        seconds = inf if life is None else life
        now = self._clock.time()
        return Value(data, seconds, now, now + seconds)

    def wrote(self, who: str, name: Name, value: Value, *, for_all: bool) -> None:
        """``who`` stored ``value``, and was told whether that holds for all."""
        self.ended(who, name, for_all=for_all)
        self._known(name, value)
        for one in self._processes:
            self._shared[one, name].add(value)
        self._rise(who, name, value)

    def ended(self, who: str, name: Name, *, for_all: bool) -> None:
        """``who`` deleted what there was."""
        if for_all:
            for one in self._processes:
                self._shared[one, name].clear()
                self._later[one, name].clear()
        else:
            self._later[who, name] |= self._shared[who, name]
            self._shared[who, name].clear()
        self._memory[who, name].clear()

    def may_have_written(self, name: Name, value: Value) -> None:
        """Somebody who cannot tell any more may have stored ``value``, in some tiers."""
        self._known(name, value)
        for one in self._processes:
            self._shared[one, name].add(value)

    def loaded(self, who: str, name: Name, value: Value, *, kept: bool) -> None:
        """``who`` loaded ``value``, which took nothing's place; ``kept``: nobody else wrote meanwhile."""
        self._known(name, value)
        if kept:
            for one in self._processes:
                self._shared[one, name].add(value)
        self._rise(who, name, value)

    def look_begins(self, who: str, names: Iterable[Name]) -> dict[Name, set[bytes]]:
        """What ``who`` may be given by the tiers that all share, for `gave_late`."""
        now = self._clock.time()
        return {
            name: {value.data for value in self._shared[who, name] if now < value.expires_at}
            for name in names
        }

    def gave_late(self, who: str, name: Name, data: bytes, begun: dict[Name, set[bytes]]) -> None:
        """``who`` was given ``data`` by a look-up that had begun before another one wrote: it may be what
        there was, and his memory may hold it."""
        if data in begun[name]:
            self._rise(who, name, self._values[name, data])
        else:
            self.gave(who, name, data)

    def gave(self, who: str, name: Name, data: bytes | None) -> None:
        """``who`` was given ``data``: hold it against what may be."""
        if data is None:
            return
        value = self._values.get((name, data))
        assert value is not None, f"{who} was given {data!r} for {name}, which nobody ever stored there"
        shared = value in self._shared[who, name]
        until = self._memory[who, name].get(value, -inf)
        undated = value.written_at > self._lost_at + CLOCKS_APART
        if (shared or undated) and self._clock.time() < value.expires_at:
            self._rise(who, name, value)
            return
        assert until > self._clock.monotonic(), (
            f"{who} was given {data!r} for {name}, which "
            + ("is past its time" if shared else "had ended")
            + f": of {sorted(one.data for one in self._shared[who, name])}"
        )

    def journal_lost(self) -> None:
        """Its database may be lost by now, and found to be so from now on; to be told of clocks set later."""
        self._lost_at = min(self._lost_at, self._clock.time())

    def restarted(self, who: str) -> None:
        """Another process took the place of ``who``, which knows what lies on the disk and the server."""
        for (one, name), later in self._later.items():
            if one == who:
                self._shared[one, name] |= later
                later.clear()
        for (one, _), held in self._memory.items():
            if one == who:
                held.clear()

    def _known(self, name: Name, value: Value) -> None:
        self._values[name, value.data] = value

    def _rise(self, who: str, name: Name, value: Value) -> None:
        if self._cap:
            held = self._memory[who, name]
            held[value] = self._clock.monotonic() + min(value.life, self._cap)
