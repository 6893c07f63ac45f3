"""What a process counted of one cache, as plain data: a row of its own, what is new in it since another, and
the sum of many."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields
from types import UnionType
from typing import Any, Final

from tiercache._digests import Digests, merged, sound
from tiercache._processes import born, place
from tiercache.stats import CacheStats, Histograms, Latency, LatencyHistogram, TierStats

__all__ = ["EARLIER", "Record", "as_row", "from_rows", "less", "never_used", "plain", "quantiles", "summed"]

#: The token of the row that those of processes which ended long ago are summed in.
EARLIER: Final = ""

_CHAIN: Final = tuple(field.name for field in fields(CacheStats) if field.name != "tiers")
#: Quantiles are left out: those of several processes cannot be added up, as what they are read from can.
_TIER: Final = tuple(
    field.name for field in fields(TierStats) if field.name not in ("name", "read_latency", "write_latency")
)
#: How many calls there were in each bucket of a `LatencyHistogram`, of the chain and of a tier.
_CHAIN_TIMES: Final = ("load_times",)
_TIER_TIMES: Final = ("read_times", "write_times")
#: What is so now, and not counted from the beginning.
_STATES: Final = ("owed", "open_circuits", "entries", "bytes")
#: Those of them that may be ``None``.
_UNKNOWN: Final = ("entries", "bytes")
#: What the fields of a `Record` are, up to its statistics; and how much a number can be.
_KINDS: Final = (str, int, str, str, str, float, float, float | None)
_MOST: Final = 2.0**63


@dataclass(frozen=True, slots=True)
class Record:
    """What one process left of one cache. Times are Unix seconds; ``ended`` is ``None`` where the process did
    not say so. ``stats`` is what `plain` makes."""

    token: str
    pid: int
    place: str
    born: str
    cache: str
    started: float
    updated: float
    ended: float | None
    stats: Mapping[str, Any]

    @property
    def state(self) -> str:
        """``"running"``, ``"ended"``, or ``"elsewhere"``: in another container or on another machine, which
        cannot be seen from here."""
        if self.ended is not None:
            return "ended"
        if self.place != place():
            return "elsewhere"
        return "running" if born(self.pid) == self.born else "ended"


def plain(stats: CacheStats, histograms: Histograms | None = None) -> dict[str, Any]:
    """``stats`` for a row: all but quantiles and ratios, and the ``histograms`` in their place. A row has
    ``popular`` as well, as `digests` makes it."""
    none: Sequence[Mapping[int, int]] = [{} for _ in stats.tiers]
    reads, writes, loads = histograms or Histograms(none, none, {})
    tiers = [
        {"name": tier.name}
        | {name: getattr(tier, name) for name in _TIER}
        | {"read_times": _buckets(read), "write_times": _buckets(write)}
        for tier, read, write in zip(stats.tiers, reads, writes, strict=True)
    ]
    chain = {name: getattr(stats, name) for name in _CHAIN}
    return chain | {"load_times": _buckets(loads), "tiers": tiers}


def _buckets(counts: Mapping[int, int]) -> dict[str, int]:
    """With keys as JSON has them."""
    return {str(number): calls for number, calls in counts.items()}


def quantiles(counts: Mapping[str, int]) -> Latency:
    """What ``counts``, those of a row, tell."""
    return LatencyHistogram.of({int(number): calls for number, calls in counts.items()}).quantiles()


def never_used(stats: Mapping[str, Any]) -> bool:
    """Whether nothing was counted yet."""
    tables = [stats, *stats["tiers"]]
    return not any(
        table[name] for table in tables for name in (*_CHAIN, *_TIER) if name in table and name not in _STATES
    )


def less(stats: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """What was counted since ``before``, of the same cache."""
    tiers = [
        {"name": tier["name"]} | _difference(tier, earlier, _TIER) | _later(tier, earlier, _TIER_TIMES)
        for tier, earlier in zip(stats["tiers"], before["tiers"], strict=True)
    ]
    chain = _difference(stats, before, _CHAIN) | _later(stats, before, _CHAIN_TIMES)
    return chain | {"tiers": tiers}


def _difference(now: Mapping[str, Any], before: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: now[name] if name in _STATES else now[name] - before[name] for name in names}


def _later(now: Mapping[str, Any], before: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The same of buckets. What is estimated from samples may go back, and there is no less than nothing."""
    found = {}
    for name in names:
        more = {number: calls - before[name].get(number, 0) for number, calls in now[name].items()}
        found[name] = {number: calls for number, calls in more.items() if calls > 0}
    return found


def summed(records: Iterable[Record]) -> dict[str, Any]:
    """All of them added up; tiers by their names. ``entries``, ``bytes`` and ``open_circuits`` are those of
    running processes, and ``owed`` is the most that one of these knows of: they may well share a journal."""
    total: dict[str, Any] = dict.fromkeys(_CHAIN, 0) | {name: Counter() for name in _CHAIN_TIMES}
    tiers: dict[str, dict[str, Any]] = {}
    popular: list[Digests] = []
    for record in records:
        popular.append(record.stats.get("popular", {}))
        running = record.state == "running"
        _add(total, record.stats, _CHAIN)
        _add_times(total, record.stats, _CHAIN_TIMES)
        for tier in record.stats["tiers"]:
            name = tier["name"]
            sums = tiers.setdefault(
                name,
                {"name": name}
                | dict.fromkeys(_TIER, 0)
                | {"entries": None, "bytes": None}
                | {times: Counter() for times in _TIER_TIMES},
            )
            _add_times(sums, tier, _TIER_TIMES)
            _add(sums, tier, [one for one in _TIER if one not in _STATES])
            if running:
                sums["owed"] = max(sums["owed"], tier["owed"])
                sums["open_circuits"] += tier["open_circuits"]
                for state in ("entries", "bytes"):
                    if tier[state] is not None:
                        sums[state] = (sums[state] or 0) + tier[state]
    return total | {"popular": merged(popular), "tiers": list(tiers.values())}


def _add(total: dict[str, Any], more: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        total[name] += more[name]


def _add_times(total: dict[str, Any], more: Mapping[str, Any], names: Sequence[str]) -> None:
    for name in names:
        total[name].update(more.get(name, {}))


# -- rows ------------------------------------------------------------------------------------------


def as_row(record: Record) -> tuple[Any, ...]:
    """``record`` as `from_rows` takes it."""
    return (*astuple(record)[:-1], json.dumps(record.stats))


def from_rows(rows: Iterable[Sequence[Any]]) -> list[Record]:
    """Those of ``rows`` that make sense. A later version may have written the others, or nobody."""
    found = []
    for *columns, text in rows:
        with suppress(ValueError, TypeError, KeyError, AttributeError):
            stats = json.loads(text)
            tiers = [
                {"name": str(tier["name"])} | _numbers(tier, _TIER) | _times(tier, _TIER_TIMES)
                for tier in stats["tiers"]
            ]
            counted = _numbers(stats, _CHAIN) | _times(stats, _CHAIN_TIMES)
            counted |= {"popular": sound(stats.get("popular")), "tiers": tiers}
            if all(map(_is_one, columns, _KINDS)):
                found.append(Record(*(*columns, counted)))
    return found


def _is_one(value: object, kind: type | UnionType) -> bool:
    return isinstance(value, kind) and (not isinstance(value, int | float) or _is_bounded(value))


def _is_bounded(value: float) -> bool:
    """Whether one can count with it: no NaN, and nothing that makes one."""
    return abs(value) < _MOST


def _numbers(table: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """What ``names`` are in ``table``; 0 for what an earlier version did not count."""
    found = {name: table.get(name, 0) for name in names}
    for name, value in found.items():
        if not (_is_one(value, int | float) or (value is None and name in _UNKNOWN)):
            raise TypeError(name)
    return found


def _times(table: Mapping[str, Any], names: Sequence[str]) -> dict[str, dict[str, int]]:
    """The buckets that ``names`` are in ``table``; none where an earlier version did not count them."""
    found = {}
    for name in names:
        counts = table.get(name, {})
        found[name] = {str(int(number)): calls for number, calls in counts.items()}
        if not all(
            int(number) >= 0 and isinstance(calls, int) and 0 <= calls < _MOST
            for number, calls in counts.items()
        ):
            raise TypeError(name)
    return found
