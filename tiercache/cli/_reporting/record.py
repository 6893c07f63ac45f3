"""What a report says, as plain records, without any value, URL or path, or what a driver said, and without
any key but those that were asked for.

What was counted or read is measured. What the ledger says was saved is estimated, by itself (see
`tiercache.ledger`), and so is the time that the statistics say was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from tiercache._counted import quantiles
from tiercache.ledger import LedgerRow
from tiercache.stats import Latency

__all__ = ["Books", "Day", "Popular", "Report", "Spent", "State", "Statistics", "TierPart"]

#: ``"listed"``: its entries were counted now; ``"memory"``: they are those that running processes have told
#: of; ``"unlisted"``: it lists no keys, or nobody asked; ``"down"``: it could not be asked.
State: TypeAlias = Literal["listed", "memory", "unlisted", "down"]


@dataclass(frozen=True, slots=True)
class TierPart:
    """One tier. ``entries`` and ``bytes`` are ``None`` where nobody knows; unless ``whole``, there are more.
    ``why`` tells what is wrong with one that is down. ``counted`` is its part of the statistics."""

    name: str
    kind: str
    state: State
    entries: int | None = None
    bytes: int | None = None
    whole: bool = True
    why: str = ""
    counted: Mapping[str, Any] | None = None

    @property
    def hit_ratio(self) -> float | None:
        """Hits for each key that it was asked for; ``None`` before the first."""
        return _share(self._count("hits"), self._count("misses"))

    @property
    def read_seconds(self) -> float | None:
        """Of its reads, for each key that it was asked for, as a mean."""
        return self._mean("read_seconds", ("hits", "misses"))

    @property
    def write_seconds(self) -> float | None:
        """Of its writes, for each key that was set, promoted or deleted, as a mean."""
        return self._mean("write_seconds", ("sets", "promotions", "deletes"))

    @property
    def read_latency(self) -> Latency:
        """Quantiles of its reads, a call each."""
        return self._quantiles("read_times")

    @property
    def write_latency(self) -> Latency:
        """Quantiles of its writes, a call each."""
        return self._quantiles("write_times")

    @property
    def failures(self) -> int:
        """Errors, time-outs and corrupt entries."""
        return self._count("errors") + self._count("timeouts") + self._count("corrupt")

    def _count(self, name: str) -> int:
        return 0 if self.counted is None else int(self.counted[name])

    def _quantiles(self, name: str) -> Latency:
        return Latency() if self.counted is None else quantiles(self.counted[name])

    def _mean(self, seconds: str, of: tuple[str, ...]) -> float | None:
        keys = sum(map(self._count, of))
        return float(self.counted[seconds]) / keys if self.counted is not None and keys else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the processes of this machine have counted of the cache: ``total`` is their sum, of which
    ``running`` run now; the first began at ``started``, the last wrote at ``updated`` (Unix seconds)."""

    processes: int
    running: int
    started: float
    updated: float
    total: Mapping[str, Any]
    saved: Mapping[str, Any]

    @property
    def hit_ratio(self) -> float | None:
        """Hits for each key looked up; ``None`` before the first."""
        return _share(self.total["hits"], self.total["misses"])

    @property
    def load_seconds(self) -> float | None:
        """What a load took, as a mean."""
        loads = self.total["loads"]
        return self.total["load_seconds"] / loads if loads else None

    @property
    def load_latency(self) -> Latency:
        """Quantiles of loaders, a call each."""
        return quantiles(self.total["load_times"])


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the ledger (UTC): the sum of its rows, how many texts each tier had, and how many look-ups
    ``missed`` them all."""

    day: str
    row: LedgerRow
    served: Mapping[str, int]
    missed: int = 0

    @property
    def wanted(self) -> int:
        """Texts that were looked up; or those that a tier had and those paid for, if these are more."""
        return self.row.served + max(self.missed, self.row.texts)

    @property
    def hit_ratio(self) -> float | None:
        """Of those: the ones that a tier had."""
        return _share(self.row.served, self.wanted - self.row.served)


@dataclass(frozen=True, slots=True)
class Books:
    """What the ledger says: each day from the first of which it knows something, and its sums."""

    currency: str
    days: tuple[Day, ...]
    tiers: tuple[LedgerRow, ...]
    models: tuple[LedgerRow, ...]
    namespaces: tuple[LedgerRow, ...]
    total: LedgerRow

    @property
    def hit_ratio(self) -> float | None:
        """As that of a `Day`."""
        return _share(self.total.served, self.wanted - self.total.served)

    @property
    def wanted(self) -> int:
        """As that of a `Day`, of all of them."""
        return sum(day.wanted for day in self.days)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was counted."""
        return not (self.wanted or self.total.calls)


@dataclass(frozen=True, slots=True)
class Spent:
    """The budget of a day, and what was spent of it by now."""

    day: str
    per_day: Decimal
    spent: Decimal
    action: str
    warn_at: tuple[float, ...]
    currency: str

    @property
    def share(self) -> float:
        """How much of it is spent; 1 is all."""
        return float(self.spent / self.per_day)


@dataclass(frozen=True, slots=True)
class Popular:
    """A key of ``namespace``, how often callers were given its value, and by how much that may be too high;
    ``key`` is ``None`` where no tier has named it."""

    namespace: str
    digest: str
    count: int
    error: int
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """All of it. ``made_at`` is in Unix seconds, ``since`` the day from which the ledger was read ("": from
    its first). ``popular`` is ``None`` where nobody asked for keys. ``problems`` could not be read and should
    have been; ``hints`` tell what is not kept."""

    cache: str
    made_at: float
    since: str
    tiers: tuple[TierPart, ...]
    statistics: Statistics | None
    books: Books | None
    budget: Spent | None
    popular: tuple[Popular, ...] | None
    problems: tuple[str, ...]
    hints: tuple[str, ...]


def _share(part: int, rest: int) -> float | None:
    return part / (part + rest) if part + rest else None
