"""`MigrationReport`: what a migration did, and what it left behind and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = ["OTHER_PREFIX", "MigrationReport", "Skipped", "Tally"]

#: Why those are skipped that nobody asked for.
OTHER_PREFIX: Final = "another prefix"

#: Keys that are kept for each reason: a report of a million damaged files still fits in memory.
_NAMED: Final = 100
_SHOWN: Final = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """Why ``count`` keys were skipped; ``keys`` are the first hundred of them."""

    reason: str
    count: int
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a migration did; ``str()`` of it is a table.

    ``copied``
        entries that are now in the target, down to its lowest tier.
    ``already_there``
        keys that the target had, and kept as they were: from an earlier run, or stored since.
    ``skipped``
        why how many of the others are not there.
    ``evicted``
        entries that the target's lowest tier dropped meanwhile: it is too small for all of them.
    """

    source: str
    copied: int
    already_there: int
    skipped: tuple[Skipped, ...]
    evicted: int
    seconds: float

    @property
    def skipped_count(self) -> int:
        """How many keys were skipped, for any reason."""
        return sum(item.count for item in self.skipped)

    def as_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists and numbers, ready for JSON."""
        return {**asdict(self), "skipped_count": self.skipped_count}

    def __str__(self) -> str:
        rows = [
            ("copied", self.copied, ""),
            ("already there", self.already_there, ""),
            ("skipped", self.skipped_count, ""),
            *((f"  {item.reason}", item.count, _some(item.keys, item.count)) for item in self.skipped),
        ]
        if self.evicted:
            rows.append(("evicted", self.evicted, "the target is too small for all of them"))
        first = max(len(row[0]) for row in rows)
        second = max(len(f"{row[1]:,}") for row in rows)
        lines = [f"{name:<{first}}  {count:>{second},}  {note}".rstrip() for name, count, note in rows]
        return "\n".join([f"{self.source}, {self.seconds:.1f} s", "-" * (first + second + 2), *lines])


def _some(keys: tuple[str, ...], count: int) -> str:
    shown = ", ".join(f"{key!a:.60}" for key in keys[:_SHOWN])
    return shown if count <= _SHOWN else f"{shown}, …"


class Tally:
    """Counts while a migration runs."""

    def __init__(self) -> None:
        self.copied = 0
        self.already_there = 0
        self._counts: dict[str, int] = {}
        self._keys: dict[str, list[str]] = {}

    def skip(self, reason: str, key: str) -> None:
        """Count a key that is not copied."""
        self._counts[reason] = self._counts.get(reason, 0) + 1
        keys = self._keys.setdefault(reason, [])
        if len(keys) < _NAMED:
            keys.append(key)

    def skip_all(self, skipped: Iterable[tuple[str, str]]) -> None:
        """The same for pairs of key and reason."""
        for key, reason in skipped:
            self.skip(reason, key)

    def report(self, source: str, *, evicted: int, seconds: float) -> MigrationReport:
        """The report of it, the commonest reason first."""
        reasons = sorted(self._counts.items(), key=lambda item: -item[1])
        skipped = tuple(Skipped(reason, count, tuple(self._keys[reason])) for reason, count in reasons)
        return MigrationReport(source, self.copied, self.already_there, skipped, evicted, seconds)
