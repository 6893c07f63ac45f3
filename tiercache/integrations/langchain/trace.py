"""`Trace`: why was this a hit or a miss? While somebody asks, each key that a store looks up is noted.

Only then, since a note keeps the beginning of the text: neither logs nor statistics ever do.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from tiercache._chain.answers import Answer, Source, collecting
from tiercache.chain import TieredCache
from tiercache.forks import reset_after_fork

__all__ = ["Trace", "TraceSummary", "TracedKey", "Tracer"]

#: Characters of a text that a note keeps.
_TEXT = 50


@dataclass(frozen=True, slots=True)
class TracedKey:
    """One key of one call.

    ``text`` is the first 50 characters of what the key stands for, where the store knows it.
    ``answered_by`` is the name of the tier that had it, ``"model"`` where the model was called for it,
    ``"flight"`` where somebody else's call of the model was waited for, ``None`` for a miss. ``seconds`` is
    the time of the whole call divided by its keys, and ``call`` numbers the calls of a trace, from 1.
    """

    call: int
    key: str
    text: str | None
    answered_by: str | None
    seconds: float


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """What a trace adds up to. ``hits``: keys that each tier answered, by its name, then ``"flight"`` and
    ``"model"``; ``mean_seconds``: of a key, by who answered (``"miss"`` for nobody)."""

    calls: int
    keys: int
    hits: Mapping[str, int]
    misses: int
    seconds: float
    mean_seconds: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        calls, keys = _counted(self.calls, "call"), _counted(self.keys, "key")
        lines = [f"{calls}, {keys}, {self.seconds * 1e3:.3f} ms"]
        # A call's time is one for all of its keys: nobody could tell a tier's share of it.
        lines += [f"{'answered by':<16}{'keys':>8}  {'mean of call / keys':>20}"]
        counts = {**self.hits, **({"miss": self.misses} if self.misses else {})}
        lines += [
            f"{who:<16}{count:>8}  {self.mean_seconds[who] * 1e6:>17.1f} µs" for who, count in counts.items()
        ]
        return "\n".join(lines)


class Trace:
    """What was looked up while ``with store.trace() as trace:`` lasted; readable also after it.

    `records` has the keys in the order in which their calls ended. Calls of other threads and tasks are in
    it too. Thread-safe.
    """

    def __init__(self, order: Sequence[str]) -> None:
        #: The tiers' names, top down.
        self.order = tuple(order)
        self._records: list[TracedKey] = []
        self._calls = 0
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        self._lock = threading.Lock()

    @property
    def records(self) -> tuple[TracedKey, ...]:
        """The keys so far."""
        with self._lock:
            return tuple(self._records)

    def summary(self) -> TraceSummary:
        """Calls, hits per tier (top down) and mean times; ``str()`` of it is a table."""
        records = self.records
        by: dict[str | None, list[float]] = {}
        for record in records:
            by.setdefault(record.answered_by, []).append(record.seconds)
        names = [who for who in (*self.order, "flight", "model") if who in by]
        names += [who for who in by if who is not None and who not in names]
        missed = by.get(None, [])
        means = {who: sum(by[who]) / len(by[who]) for who in names}
        return TraceSummary(
            calls=len({record.call for record in records}),
            keys=len(records),
            hits={who: len(by[who]) for who in names},
            misses=len(missed),
            seconds=sum(record.seconds for record in records),
            mean_seconds={**means, "miss": sum(missed) / len(missed)} if missed else means,
        )

    def __str__(self) -> str:
        """One line a key, with the time of its call divided by the call's keys."""
        rows = [f"{'call':>5}  {'answered by':<14}{'call / keys':>13}  key"]
        rows += [
            f"{record.call:>5}  {record.answered_by or 'miss':<14}{record.seconds * 1e6:>10.1f} µs  "
            f"{record.key[:20]}{'' if record.text is None else f'  {record.text!r}'}"
            for record in self.records
        ]
        return "\n".join(rows)

    def add(
        self, keys: Sequence[str], texts: Sequence[str] | None, who: Sequence[str | None], seconds: float
    ) -> None:
        """Note a call (for the store)."""
        each = seconds / len(keys) if keys else 0.0
        with self._lock:
            self._calls += 1
            for index, key in enumerate(keys):
                text = None if texts is None else texts[index][:_TEXT]
                self._records.append(TracedKey(self._calls, key, text, who[index], each))


class Call:
    """A look-up that is being traced. Set ``found`` to its values, ``None`` for a miss."""

    def __init__(self) -> None:
        self.found: Sequence[object] = ()


class Tracer:
    """The traces of one store, over ``cache``. Thread-safe. While it is not `active` nothing need be told."""

    def __init__(self, cache: TieredCache[Any]) -> None:
        self._cache = cache
        self._traces: tuple[Trace, ...] = ()
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread may have held the old one."""
        # Re-entrant: the garbage collector may throw a traced coroutine away in a thread that holds it.
        self._lock = threading.RLock()

    @property
    def active(self) -> bool:
        """Whether somebody wants to know."""
        return bool(self._traces)

    @contextmanager
    def trace(self) -> Iterator[Trace]:
        """Notes every look-up that ends before it does. Traces may overlap: each has all."""
        trace = Trace([tier.name for tier in self._cache.stats().tiers])
        with self._lock:
            self._traces += (trace,)
        try:
            yield trace
        finally:
            with self._lock:
                self._traces = tuple(other for other in self._traces if other is not trace)

    @contextmanager
    def call(self, keys: Sequence[str], texts: Sequence[str] | None = None) -> Iterator[Call]:
        """One look-up of ``keys``, which stand for ``texts``. One that raises is not noted."""
        call = Call()
        start = perf_counter()
        with collecting(self._cache._stack) as answers:  # noqa: SLF001 - no public call tells who answered
            yield call
        seconds = perf_counter() - start
        for trace in self._traces:
            # The memory tier's fast road answers without the core, which would have noted it.
            who = [
                answers.get(key) or (trace.order[0] if value is not None else None)
                for key, value in zip(keys, call.found, strict=True)
            ]
            trace.add(keys, texts, list(map(_named, who)), seconds)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _named(who: Answer | None) -> str | None:
    return {Source.LOADER: "model", Source.FLIGHT: "flight"}[who] if isinstance(who, Source) else who
