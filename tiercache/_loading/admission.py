"""Admission: which values are worth keeping below memory; the options of a cache and of its loading calls.

A tier below memory takes time for each value, and room that others could have. What is small, or was made
quickly, may not be worth that. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from tiercache.entry import Entry
from tiercache.units import Duration, Size, optional_size, optional_wait

__all__ = ["ADMISSION_READERS", "ADMIT_ALL", "Admission", "AdmissionOptions"]

_NONE: frozenset[str] = frozenset()


class AdmissionOptions(TypedDict, total=False):
    """Options of a cache and of its loading calls, where each of them stands in for the cache's own.

    ``min_bytes``
        values that are smaller, as they are encoded, are kept in memory tiers alone. ``None``: none is.
    ``min_cost``
        values whose load took less time are kept in memory tiers alone. ``None``: none is.

    Of a loaded value with both, either is enough to be kept below memory: large enough, or costly enough.
    What is set without a loader is judged by its size alone, since nobody knows what it cost.
    """

    min_bytes: Size | None
    min_cost: Duration | None


@dataclass(frozen=True, slots=True)
class Admission:
    """The options, checked, in bytes and seconds."""

    min_bytes: int | None = None
    min_cost: float | None = None

    def override(self, options: Mapping[str, Any]) -> Admission:
        """The same with ``options`` in the place of these. Raises `ConfigError` for a value that is wrong."""
        return replace(self, **{name: ADMISSION_READERS[name](value) for name, value in options.items()})

    def above(self, entries: Mapping[str, Entry[Any]], seconds: float | None = None) -> frozenset[str]:
        """The keys of those ``entries`` that are to be kept in memory alone. ``seconds``: how long the load
        took that made them; ``None``: nobody knows."""
        cheap = None if seconds is None or self.min_cost is None else seconds < self.min_cost
        if cheap is False:
            return _NONE
        if self.min_bytes is None:
            return frozenset(entries) if cheap else _NONE
        least = self.min_bytes
        return frozenset(
            key for key, entry in entries.items() if entry.size is not None and entry.size < least
        )


#: What a cache does unless told.
ADMIT_ALL = Admission()

#: What reads each option. Raises `ConfigError`.
ADMISSION_READERS: dict[str, Callable[[Any], Any]] = {
    "min_bytes": lambda value: optional_size(value, name="min_bytes"),
    "min_cost": lambda value: optional_wait(value, name="min_cost"),
}
