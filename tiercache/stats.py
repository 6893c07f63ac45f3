"""Statistics: cheap mutable counters inside, frozen snapshots outside.

Counting rules:

* a key looked up counts once at each tier that it came to: ``hits + misses`` is what the tiers above missed;
* for the chain, ``hits + misses == keys looked up`` (a duplicate within one call counts each time);
* a stale entry is a miss at the tier that holds it. Where a loading call serves it at once (``stale_for``, or
  while a loader that fails is left alone), the chain counts a hit, where it serves it after a load was tried
  in vain or takes too long, a miss; ``stale_served`` counts both, and a duplicate each time;
* ``loads`` and ``load_errors`` count what runs behind the callers as well;
* ``promotions`` counts entries copied *into* a tier, and is no ``set``;
* ``sets``, ``deletes`` and ``loads`` count keys;
* ``expirations`` counts entries found or swept past their time;
* bytes that fail the envelope's checks are ``corrupt``; those that are not for this process to judge (of
  another codec, secret, key or format version) are ``foreign``, which are misses and left alone;
* a call that raised is one of ``errors``, one that ran out of its deadline one of ``timeouts``; an entry too
  large for a tier is ``rejected``;
* ``skipped`` counts keys that a tier was not asked about because its circuit was open (a clear, a purge or
  a page of a listing is one), because it could not be told what it missed about them, or because the journal
  could not be read: for look-ups these are misses too, and for writes nothing else;
* ``journalled`` counts keys (and cleared ranges) that a tier missed a delete or overwrite of, ``settled``
  those that it was told of since, and ``owed`` is how many are left, as far as this process knows;
* ``open_circuits`` is how many of a tier's breakers keep calls from it just now: there is one, or one for
  reads and one for writes, and one that lets a probe pass is still open;
* ``coalesced`` counts callers that joined a flight, ``promotions_dropped`` entries that the promoter had
  no room for, ``refreshes_dropped`` keys that there was no room or thread to refresh, ``unstorable`` loaded
  values that were handed out and not kept: refused by their codec, no bytes where there is none, or too
  large for every tier, ``not_admitted`` values that were kept in memory alone, being small or cheap.

The views of a chain share its statistics, as they share its tiers.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

__all__ = [
    "CacheCounters",
    "CacheStats",
    "Histograms",
    "Latency",
    "LatencyHistogram",
    "TierCounters",
    "TierStats",
]


_COLUMNS = (
    "tier", "hits", "misses", "ratio", "promotions", "sets", "deletes", "evictions", "expirations",
    "errors", "rejected", "entries", "bytes", "read p50",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Latency:
    """Quantiles of one kind of call, in seconds, within 20 %; ``None`` before the first call."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class TierStats:
    """What one tier has done since the chain was made. ``entries`` and ``bytes`` are ``None`` where
    only I/O could tell. Seconds are those spent in the tier's calls (for memory hits, and sets of
    one key in memory alone: estimated from samples)."""

    name: str
    hits: int = 0
    misses: int = 0
    promotions: int = 0
    sets: int = 0
    deletes: int = 0
    evictions: int = 0
    expirations: int = 0
    errors: int = 0
    timeouts: int = 0
    corrupt: int = 0
    foreign: int = 0
    rejected: int = 0
    skipped: int = 0
    journalled: int = 0
    settled: int = 0
    owed: int = 0
    open_circuits: int = 0
    entries: int | None = None
    bytes: int | None = None
    read_seconds: float = 0.0
    write_seconds: float = 0.0
    read_latency: Latency = Latency()
    write_latency: Latency = Latency()

    @property
    def hit_ratio(self) -> float:
        """Hits per key asked of this tier; 0.0 before the first."""
        return _ratio(self.hits, self.misses)


@dataclass(frozen=True, slots=True)
class CacheStats:
    """A snapshot of a chain. ``str()`` of it is a table, `as_dict` plain data; what each number counts is in
    ``docs/explanation/statistics.md``."""

    tiers: tuple[TierStats, ...]
    hits: int = 0
    misses: int = 0
    loads: int = 0
    load_errors: int = 0
    load_seconds: float = 0.0
    stale_served: int = 0
    suppressed_writes: int = 0
    coalesced: int = 0
    promotions_dropped: int = 0
    refreshes_dropped: int = 0
    unstorable: int = 0
    not_admitted: int = 0

    @property
    def hit_ratio(self) -> float:
        """Hits per key looked up; 0.0 before the first."""
        return _ratio(self.hits, self.misses)

    def as_dict(self) -> dict[str, Any]:
        """Everything as nested dicts, lists and numbers, ready for JSON."""
        data = asdict(self)
        data["tiers"] = [{**asdict(tier), "hit_ratio": tier.hit_ratio} for tier in self.tiers]
        data["hit_ratio"] = self.hit_ratio
        return data

    def __repr__(self) -> str:
        return str(self)  # notebooks and the prompt show this, and the fields in a row tell nobody anything

    def __str__(self) -> str:
        rows: list[tuple[str, ...]] = [_COLUMNS]
        rows += [
            (
                tier.name,
                *(f"{count:,}" for count in (tier.hits, tier.misses)),
                f"{tier.hit_ratio:.1%}",
                *(f"{count:,}" for count in (tier.promotions, tier.sets, tier.deletes)),
                *(f"{count:,}" for count in (tier.evictions, tier.expirations)),
                f"{tier.errors + tier.timeouts + tier.corrupt:,}",
                f"{tier.rejected:,}",
                *("-" if count is None else f"{count:,}" for count in (tier.entries, tier.bytes)),
                _seconds(tier.read_latency.p50),
            )
            for tier in self.tiers
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in cells)
            for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
        ]
        lines.insert(1, "-" * len(lines[0]))
        lines.append(
            f"{self.hits:,} hits and {self.misses:,} misses ({self.hit_ratio:.1%}); "
            f"{self.loads:,} loads in {self.load_seconds:.2f} s, {self.load_errors:,} failed, "
            f"{self.coalesced:,} coalesced, {self.stale_served:,} served stale, "
            f"{self.unstorable:,} not storable; "
            f"{self.suppressed_writes:,} writes suppressed"
        )
        foreign = sum(tier.foreign for tier in self.tiers)
        if foreign:
            lines.append(f"{foreign:,} entries of another codec, secret, key or version, taken for misses")
        left_alone = sum(tier.skipped for tier in self.tiers)
        owed = sum(tier.owed for tier in self.tiers)
        if left_alone or owed:
            lines.append(
                f"{left_alone:,} keys not asked of tiers that were left alone; {owed:,} owed to tiers"
            )
        return "\n".join(lines)


class LatencyHistogram:
    """Counts calls in buckets whose bounds grow by 1.2. Not thread-safe: its owner's lock guards it."""

    _BOUNDS = tuple(100e-9 * 1.2**step for step in range(110))  # 100 ns … 50 s

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * (len(self._BOUNDS) + 1)
        self._total = 0

    def add(self, seconds: float, calls: int = 1) -> None:
        """Count calls that took ``seconds`` each."""
        self._counts[bisect_right(self._BOUNDS, seconds)] += calls
        self._total += calls

    @classmethod
    def of(cls, counts: Mapping[int, int]) -> LatencyHistogram:
        """One with these `counts`; those of buckets that there are not go to the last."""
        made = cls()
        for number, calls in counts.items():
            made._counts[min(number, len(made._counts) - 1)] += calls
            made._total += calls
        return made

    def counts(self) -> dict[int, int]:
        """How many calls there are in each bucket that has any. They can be added up, and so can those of
        several processes: the bounds are for ever the same."""
        return {number: calls for number, calls in enumerate(self._counts) if calls}

    def copy(self) -> LatencyHistogram:
        """Another one with the same counts."""
        other = LatencyHistogram()
        other._counts = self._counts.copy()
        other._total = self._total
        return other

    def quantiles(self) -> Latency:
        """The quantiles of all calls so far (the upper bound of the bucket they lie in)."""
        return Latency(*(self._quantile(share) for share in (0.5, 0.95, 0.99)))

    def _quantile(self, share: float) -> float | None:
        if not self._total:
            return None
        rest = share * self._total
        for bound, count in zip(self._BOUNDS, self._counts, strict=False):
            rest -= count
            if rest <= 0:
                return bound
        return self._BOUNDS[-1]


class Histograms(NamedTuple):
    """How long the calls of a chain took, as `LatencyHistogram.counts` tells: ``reads`` and ``writes`` of
    each tier, from the top down, and ``loads``, one for each call of a loader."""

    reads: Sequence[Mapping[int, int]]
    writes: Sequence[Mapping[int, int]]
    loads: Mapping[int, int]


class TierCounters:
    """One tier's counters. Whoever changes several of them holds ``lock``, once for the whole call."""

    __slots__ = (
        "corrupt",
        "deletes",
        "errors",
        "expirations",
        "foreign",
        "hits",
        "journalled",
        "lock",
        "misses",
        "promotions",
        "read_latency",
        "read_seconds",
        "rejected",
        "set_seconds",
        "sets",
        "settled",
        "skipped",
        "timeouts",
        "write_latency",
        "write_seconds",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hits = self.misses = self.promotions = self.sets = self.deletes = 0
        self.errors = self.timeouts = self.rejected = self.skipped = self.corrupt = self.expirations = 0
        self.foreign = self.journalled = self.settled = 0
        self.read_seconds = self.write_seconds = 0.0
        self.read_latency = LatencyHistogram()
        self.write_latency = LatencyHistogram()
        #: Sets of one entry that are not counted yet, each with the seconds that it took or, as most of them,
        #: with nothing: to append takes no lock.
        self.set_seconds: list[float | None] = []

    def add_sets(self) -> None:
        """Count what is in `set_seconds`; the lock is held."""
        taken = self.set_seconds[:]
        del self.set_seconds[: len(taken)]  # others may append meanwhile
        self.sets += len(taken)
        samples = [seconds for seconds in taken if seconds is not None]
        for seconds in samples:
            self.write_seconds += seconds * len(taken) / len(samples)
            self.write_latency.add(seconds, len(taken) // len(samples))


class CacheCounters:
    """A chain's counters; ``lock`` as in `TierCounters`."""

    __slots__ = (
        "coalesced", "hits", "load_errors", "load_latency", "load_seconds", "loads", "lock", "misses",
        "not_admitted", "promotions_dropped", "refreshes_dropped", "stale_served", "suppressed_writes",
        "unstorable",
    )  # fmt: skip

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hits = self.misses = self.loads = self.load_errors = self.coalesced = 0
        self.stale_served = self.suppressed_writes = self.unstorable = 0
        self.promotions_dropped = self.refreshes_dropped = self.not_admitted = 0
        self.load_seconds = 0.0
        self.load_latency = LatencyHistogram()

    def took(self, seconds: float) -> None:
        """Count what a call of a loader took; the lock is held."""
        self.load_seconds += seconds
        self.load_latency.add(seconds)


def _ratio(hits: int, misses: int) -> float:
    return hits / (hits + misses) if hits + misses else 0.0


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1:
            return f"{value * factor:.1f} {unit}"
    return f"{value * 1e9:.0f} ns"
