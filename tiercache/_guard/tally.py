"""What one tier of a chain has done and failed to do: counted, and told to the log and to who hears of it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

from tiercache._log import describe, logger
from tiercache.errors import CacheClosed, TierTimeout, TierUnavailable
from tiercache.events import Emitter, TierFailed
from tiercache.protocols import Clock, Size
from tiercache.stats import LatencyHistogram, TierCounters, TierStats

__all__ = ["LOG_INTERVAL", "Tally"]

LOG_INTERVAL = 60.0  # seconds between two warnings about one tier
_OWN = ("evictions", "expirations", "corrupt", "foreign")  # what a tier may count itself


class Tally:
    """The counters of one tier in one root chain, and what is said of it. Thread-safe."""

    def __init__(self, tier: Any, name: str, clock: Clock, events: Emitter) -> None:
        self.tier = tier
        self.name = name
        self.counters = TierCounters()
        #: Whether its chain has closed it, or is about to.
        self.closed = False
        self._events = events
        self._clock = clock
        self._next_warning = float("-inf")
        self._suppressed_warnings = 0
        self._renew_locks()

    def _renew_locks(self) -> None:
        self._log_lock = threading.Lock()
        self.counters.lock = threading.Lock()

    def failed(self, error: Exception, action: str, *, counted: bool = True) -> None:
        """Count a call that raised, and say so in the log: the first at once, then once a minute. One that
        was skipped is counted as such already; and what was under way when its chain closed the tier is no
        failure of the tier."""
        if isinstance(error, TierUnavailable) and error.skipped:
            return
        if self.closed and isinstance(error, CacheClosed):
            logger().info("tier %r was closed with its cache before it could %s", self.name, action)
            return
        timeout = isinstance(error, TierTimeout | TimeoutError)
        event = TierFailed(self.name, action, type(error).__name__, timeout)
        self._events.emit(event)
        counters = self.counters
        if counted:
            with counters.lock:
                if timeout:
                    counters.timeouts += 1
                else:
                    counters.errors += 1
        now = self._clock.monotonic()
        with self._log_lock:
            if now < self._next_warning:
                self._suppressed_warnings += 1
                return
            self._next_warning = now + LOG_INTERVAL
            unsaid, self._suppressed_warnings = self._suppressed_warnings, 0
        logger().warning(
            "tier %r failed to %s (%s)%s",
            self.name,
            action,
            describe(error),
            f"; {unsaid} more failures since the last warning" if unsaid else "",
            extra={"tiercache": event.as_dict()},
        )

    def unasked(self, keys: int) -> None:
        """Count misses of keys that the tier was not asked for, because it is owed something about them, or
        because nobody can tell whether it is."""
        with self.counters.lock:
            self.counters.misses += keys
            self.counters.skipped += keys

    def corrupt(self, count: int) -> None:
        """Count entries whose bytes made no sense to their codec; they were no hits after all."""
        with self.counters.lock:
            self.counters.corrupt += count

    def foreign(self, count: int, codec: str) -> None:
        """Count entries that were not written by ``codec`` as it is here; they were no hits after all. Told
        once: the codec may be the wrong one, and everything is paid for again."""
        counters = self.counters
        with counters.lock:
            counters.hits -= count
            counters.misses += count
            first = not counters.foreign
            counters.foreign += count
        if first:
            logger().warning(
                "tier %r holds entries of another codec than %r, or of a key or version that it does not "
                "know: they are misses and left alone; stats() counts them as foreign",
                self.name,
                codec,
            )

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

    def open_circuits(self) -> int:
        """How many breakers keep calls from the tier: none of its own."""
        return 0

    def own_counters(self) -> dict[str, int]:
        """What the tier itself has counted."""
        own = self._ask("counters", {})
        return {name: own.get(name, 0) for name in _OWN}

    def stats(self, fast_hits: int, samples: Sequence[float], *, owed: int, asking: bool) -> TierStats:
        """A snapshot; ``fast_hits`` is what the memory tier's own road answered, and ``samples`` the seconds
        that some of those hits took; ``owed`` is how many debts it has yet to hear of. Unless ``asking``, the
        tier is not called, and what it would say of itself is left out."""
        own = self.own_counters() if asking else dict.fromkeys(_OWN, 0)
        size = self._ask("size", None) if asking else None
        counters = self.counters
        fast_seconds = fast_hits * sum(samples) / len(samples) if samples else 0.0
        reads, writes = self.histograms(fast_hits, samples)
        with counters.lock:
            return TierStats(
                name=self.name,
                hits=counters.hits + fast_hits,
                misses=counters.misses,
                promotions=counters.promotions,
                sets=counters.sets,
                deletes=counters.deletes,
                evictions=own["evictions"],
                expirations=counters.expirations + own["expirations"],
                errors=counters.errors,
                timeouts=counters.timeouts,
                corrupt=counters.corrupt + own["corrupt"],
                foreign=counters.foreign + own["foreign"],
                rejected=counters.rejected,
                skipped=counters.skipped,
                journalled=counters.journalled,
                settled=counters.settled,
                owed=owed,
                open_circuits=self.open_circuits(),
                entries=None if size is None else size.entries,
                bytes=None if size is None else size.bytes,
                read_seconds=counters.read_seconds + fast_seconds,
                write_seconds=counters.write_seconds,
                read_latency=reads.quantiles(),
                write_latency=writes.quantiles(),
            )

    def histograms(
        self, fast_hits: int, samples: Sequence[float]
    ) -> tuple[LatencyHistogram, LatencyHistogram]:
        """How long reads and writes took; see `stats`."""
        counters = self.counters
        with counters.lock:
            counters.add_sets()
            reads, writes = counters.read_latency.copy(), counters.write_latency.copy()
        for seconds in samples:
            reads.add(seconds, fast_hits // len(samples))
        return reads, writes

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
