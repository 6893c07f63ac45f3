"""The guard: all calls of one tier pass through it, so that an ill tier is a miss and is counted.

It also does what no tier can be trusted with: nothing expired, and nothing that is not an entry, gets
past it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence
from time import perf_counter
from typing import Any

from tiercache._bridge import Port
from tiercache._log import logger
from tiercache.entry import Entry
from tiercache.errors import EntryRejected, TierError, TierTimeout
from tiercache.protocols import Clock, Size
from tiercache.stats import TierCounters, TierStats

__all__ = ["Guard", "describe"]

_LOG_INTERVAL = 60.0  # seconds between two warnings about one tier


def describe(error: Exception) -> str:
    """``error`` for people. Only our own errors promise to hold no key, value or password."""
    return f"{type(error).__name__}: {error}" if isinstance(error, TierError) else type(error).__name__


class Guard:
    """The guard of one tier in one root chain. Thread-safe."""

    def __init__(self, tier: Any, name: str, clock: Clock) -> None:
        self.tier = tier
        self.name = name
        self.counters = TierCounters()
        self._clock = clock
        self._next_warning = float("-inf")
        self._suppressed_warnings = 0
        self.after_fork()

    def after_fork(self) -> None:
        """New locks, for a forked child: another thread may have held the old ones."""
        self._log_lock = threading.Lock()
        self.counters.lock = threading.Lock()

    async def read(self, port: Port, keys: Sequence[str], *, counted: bool) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``; whatever goes wrong is a miss. A second look of one call is not
        ``counted``, anywhere."""
        counters = self.counters
        start = perf_counter()
        found: dict[str, Entry[Any]] = {}
        expired = 0
        garbage: list[str] = []
        try:
            answer = await port.mget(keys)
            found, expired, garbage = self._live(answer, keys)
        except Exception as error:  # noqa: BLE001 - a read never raises because a tier is ill
            self.failed(error, "read", counted=counted)
        seconds = perf_counter() - start
        if counted:
            with counters.lock:
                counters.hits += len(found)
                counters.misses += len(keys) - len(found)
                counters.expirations += expired
                counters.corrupt += len(garbage)
                counters.read_seconds += seconds
                counters.read_latency.add(seconds)
        if garbage:
            await self.delete(port, garbage, counted=False)
        return found

    async def write(
        self, port: Port, entries: Mapping[str, Entry[Any]], *, promotion: bool
    ) -> tuple[int, Exception | None]:
        """Store ``entries``; how many the tier took, and the reason if that is not all."""
        counters = self.counters
        start = perf_counter()
        taken, rejected = len(entries), 0
        failure: Exception | None = None
        try:
            await port.mset(entries)
        except EntryRejected as refusal:
            failure = refusal
            rejected = len(refusal.keys)
            taken -= rejected
            # What did not fit must not leave an older value behind.
            await self.delete(port, refusal.keys, counted=False)
        except Exception as error:  # noqa: BLE001 - a cache must not take its application down
            self.failed(error, "write")
            failure = error
            taken = 0
        seconds = perf_counter() - start
        with counters.lock:
            if promotion:
                counters.promotions += taken
            else:
                counters.sets += taken
            counters.rejected += rejected
            counters.write_seconds += seconds
            counters.write_latency.add(seconds)
        return taken, failure

    async def delete(self, port: Port, keys: Collection[str], *, counted: bool = True) -> Exception | None:
        """Drop ``keys``; the reason if the tier did not confirm it."""
        counters = self.counters
        start = perf_counter()
        failure: Exception | None = None
        try:
            await port.mdelete(list(keys))
        except Exception as error:  # noqa: BLE001 - the chain tells its caller, after it asked every tier
            self.failed(error, "delete")
            failure = error
        seconds = perf_counter() - start
        with counters.lock:
            if failure is None and counted:
                counters.deletes += len(keys)
            counters.write_seconds += seconds
            counters.write_latency.add(seconds)
        return failure

    def failed(self, error: Exception, action: str, *, counted: bool = True) -> None:
        """Count a call that raised, and say so in the log: the first at once, then once a minute."""
        counters = self.counters
        if counted:
            with counters.lock:
                if isinstance(error, TierTimeout | TimeoutError):
                    counters.timeouts += 1
                else:
                    counters.errors += 1
        now = self._clock.monotonic()
        with self._log_lock:
            if now < self._next_warning:
                self._suppressed_warnings += 1
                return
            self._next_warning = now + _LOG_INTERVAL
            unsaid, self._suppressed_warnings = self._suppressed_warnings, 0
        logger().warning(
            "tier %r failed to %s (%s)%s",
            self.name,
            action,
            describe(error),
            f"; {unsaid} more failures since the last warning" if unsaid else "",
        )

    def corrupt(self, count: int) -> None:
        """Count entries whose bytes made no sense to their codec; they were no hits after all."""
        with self.counters.lock:
            self.counters.corrupt += count

    def no_hits(self, count: int) -> None:
        """Turn hits already counted into misses: their codec could not read them."""
        with self.counters.lock:
            self.counters.hits -= count
            self.counters.misses += count

    def add_fast_hits(self, hits: int, samples: Sequence[float]) -> None:
        """Count what the memory tier's own road answered, now that it is gone; ``samples`` are the seconds
        that some of those hits took."""
        counters = self.counters
        with counters.lock:
            counters.hits += hits
            for seconds in samples:
                counters.read_seconds += hits * seconds / len(samples)
                counters.read_latency.add(seconds, hits // len(samples))

    def stats(self, fast_hits: int, samples: Sequence[float]) -> TierStats:
        """A snapshot; ``fast_hits`` is what the memory tier's own road answered, and ``samples`` the seconds
        that some of those hits took."""
        own: Any = self._ask("counters", {})
        size = self._ask("size", None)
        counters = self.counters
        fast_seconds = fast_hits * sum(samples) / len(samples) if samples else 0.0
        with counters.lock:
            read_latency = counters.read_latency.copy()
            for seconds in samples:
                read_latency.add(seconds, fast_hits // len(samples))
            return TierStats(
                name=self.name,
                hits=counters.hits + fast_hits,
                misses=counters.misses,
                promotions=counters.promotions,
                sets=counters.sets,
                deletes=counters.deletes,
                evictions=own.get("evictions", 0),
                expirations=counters.expirations + own.get("expirations", 0),
                errors=counters.errors,
                timeouts=counters.timeouts,
                corrupt=counters.corrupt + own.get("corrupt", 0),
                rejected=counters.rejected,
                skipped=counters.skipped,
                entries=None if size is None else size.entries,
                bytes=None if size is None else size.bytes,
                read_seconds=counters.read_seconds + fast_seconds,
                write_seconds=counters.write_seconds,
                read_latency=read_latency.quantiles(),
                write_latency=counters.write_latency.quantiles(),
            )

    def _ask(self, capability: str, otherwise: Any) -> Any:
        """What the tier says of itself. Statistics never break a call, and an attribute of the same name
        may be anything."""
        method = getattr(self.tier, capability, None)
        try:
            answer = method() if callable(method) else otherwise
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error, f"tell its {capability}")
            return otherwise
        expected = Mapping if capability == "counters" else Size
        return answer if isinstance(answer, expected) else otherwise

    def _live(self, answer: Any, keys: Sequence[str]) -> tuple[dict[str, Entry[Any]], int, list[str]]:
        """What of a tier's answer is worth having: the entries; how many were expired; under which keys
        there was garbage."""
        if not isinstance(answer, Mapping):
            raise TierError(f"mget returned {type(answer).__name__}, not a dict of entries", tier=self.name)
        found: dict[str, Entry[Any]] = {}
        expired = 0
        garbage: list[str] = []
        now = self._clock.time() if answer else 0.0
        for key in keys:
            entry = answer.get(key)
            if entry is None:
                continue
            try:
                # Of NaN it is not true either that it lies in the future.
                lives = entry.expires_at is None or entry.expires_at > now
                whole = isinstance(entry, Entry) and entry.value is not None
            except (AttributeError, TypeError):
                whole = False
            if not whole:
                garbage.append(key)
            elif lives:
                found[key] = entry
            else:
                expired += 1
        return found, expired, garbage
