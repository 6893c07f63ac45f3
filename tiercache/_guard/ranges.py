"""Ranges of keys about which there are notes, and which of them hold a key.

A range is what begins with one text and not with another. There may be thousands, one for each view that was
cleared, and each look-up asks: so they are found by the beginnings of its keys, and not one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tiercache.protocols import Debt

__all__ = ["Ranges", "covers"]


class Ranges:
    """Debts about ranges, one for each range and tier. Not thread-safe, but while one thread changes it
    others may ask what is `covering`, and get what there was or what there is."""

    def __init__(self) -> None:
        self._debts: dict[tuple[str, str | None, str], Debt] = {}
        self._by_start: dict[str, tuple[Debt, ...]] = {}
        self._lengths: tuple[int, ...] = ()  # of those starts

    def __len__(self) -> int:
        return len(self._debts)

    def __iter__(self) -> Iterator[Debt]:
        return iter(list(self._debts.values()))

    def same(self, debt: Debt) -> Debt | None:
        """The debt about the same range of the same tier."""
        return self._debts.get((debt.key, debt.skip, debt.tier))

    def put(self, debt: Debt) -> None:
        """Note ``debt`` instead of the `same` one."""
        known = self.same(debt)
        self._debts[debt.key, debt.skip, debt.tier] = debt
        others = self._by_start.get(debt.key)
        if others is None:
            self._by_start[debt.key] = (debt,)
            if len(debt.key) not in self._lengths:
                self._lengths = tuple(sorted((*self._lengths, len(debt.key))))
        else:
            self._by_start[debt.key] = (*(other for other in others if other is not known), debt)

    def clear(self) -> None:
        """Forget all."""
        self._debts = {}
        self._by_start = {}
        self._lengths = ()

    def covering(self, keys: Iterable[str]) -> list[Debt]:
        """The debts whose ranges hold one of ``keys``."""
        found: dict[int, Debt] = {}
        for key in keys:
            for length in self._lengths:
                if length > len(key):
                    break
                for debt in self._by_start.get(key[:length], ()):
                    if covers(debt, key):
                        found[id(debt)] = debt
        return list(found.values())


def covers(debt: Debt, key: str) -> bool:
    """Whether ``debt`` is about a range that holds ``key``."""
    skip = debt.skip
    return key.startswith(debt.key) and not (skip and key.startswith(skip))
