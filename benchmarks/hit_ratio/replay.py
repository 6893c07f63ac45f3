"""Replays a trace through the real tiers: each lookup that misses is stored, as a loader would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from benchmarks.hit_ratio.traces import Trace
from tiercache import DiskTier, MemoryTier, TieredCache

__all__ = ["Replayed", "TierFigures", "replay"]


@dataclass(frozen=True, slots=True)
class TierFigures:
    """What one tier did. Bytes are those of values: read from the tier, and written into it."""

    name: str
    entries: int  # its bound
    hits: int
    promotions: int
    evictions: int
    bytes_read: int
    bytes_written: int


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a chain did with a trace."""

    lookups: int
    hits: int
    tiers: tuple[TierFigures, ...]
    seconds: float  # that all lookups took, and storing what they missed

    @property
    def moved(self) -> int:
        """Bytes of values that went in or out of a tier below memory, or into memory."""
        below = sum(tier.bytes_read for tier in self.tiers[1:])
        return below + sum(tier.bytes_written for tier in self.tiers)


def replay(trace: Trace, *, policy: str, size: int, disk: int | None = None, value: int = 1024) -> Replayed:
    """What a memory tier of ``size`` entries does with ``trace``, above a disk tier of ``disk`` entries
    unless that is ``None``; values are ``value`` bytes long."""
    with TemporaryDirectory(prefix="hit-ratio-") as folder:
        # Without a cap: how quick this machine is must not tell what has expired.
        memory = MemoryTier(max_entries=size, policy=policy, ttl=None)
        bounds = [size]
        tiers: list[MemoryTier | DiskTier] = [memory]
        if disk is not None:
            bounds.append(disk)
            tiers.append(DiskTier(Path(folder, "disk"), max_entries=disk))
        # Promotions of the chain's own thread would make each run another one.
        with TieredCache(tiers, ttl=None, promote="inline") as cache:
            seconds = _ask(cache, trace.keys, b"\0" * value)
            cache.flush()
            stats = cache.stats()
    figures = tuple(
        TierFigures(
            name=tier.name,
            entries=bound,
            hits=tier.hits,
            promotions=tier.promotions,
            evictions=tier.evictions,
            bytes_read=tier.hits * value,
            bytes_written=(tier.promotions + tier.sets) * value,
        )
        for tier, bound in zip(stats.tiers, bounds, strict=True)
    )
    return Replayed(len(trace.keys), stats.hits, figures, seconds)


def _ask(cache: TieredCache[bytes], keys: list[str], value: bytes) -> float:
    get, store = cache.get, cache.set
    begun = perf_counter()
    for key in keys:
        if get(key) is None:
            store(key, value)
    return perf_counter() - begun
