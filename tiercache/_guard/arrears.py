"""Arrears: what one tier has yet to hear of, and what is too old to come from it, as this process knows.

Every chain of the process over that tier shares it. Where a chain has a durable tier, that one's journal is
what counts, and the arrears hold what was read from it for the keys at hand; where it has none, or where that
one failed too, the arrears are all there is.

They are bounded. What overflows becomes one note about all of the tier: nothing that was written before may
be served any more. A key that is noted costs a dict entry; a tier that owes nothing costs one look at
`debts`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tiercache._guard.ranges import Ranges, covers
from tiercache.debts import CLOCKS_APART, JUST_LATER, Debt
from tiercache.entry import Entry
from tiercache.forks import reset_after_fork

__all__ = ["Arrears"]

_MOST_KEYS = 100_000
_MOST_RANGES = 10_000


class Arrears:
    """The debts of one tier. Thread-safe."""

    def __init__(self) -> None:
        self._keys: dict[str, Debt] = {}
        self._wide = Ranges()
        #: Whether there are any: looked at by every read, without the lock.
        self.debts = False
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def add(self, debts: Iterable[Debt]) -> None:
        """Note ``debts`` that somebody told of, perhaps a while ago; of two about one key the later one
        stands, and what is settled stays so."""
        with self._lock:
            for debt in debts:
                known = self._known(debt)
                if (
                    known is None
                    or known.before < debt.before
                    or (debt.settled and known.before == debt.before)
                ):
                    self._put(debt)
            self._tidy()

    def owe(self, debts: Iterable[Debt]) -> int:
        """Note what the tier missed just now; how many of ``debts`` it did not owe until now. They stand
        whatever was settled before: a clock that went back makes them no older than that."""
        more = 0
        with self._lock:
            for debt in debts:
                known = self._known(debt)
                more += known is None or known.settled
                if known is None or _is_later(debt, known):
                    self._put(debt)
                else:
                    self._put(replace(debt, before=known.before + JUST_LATER))
            self._tidy()
        return more

    def expect(self, tier: str, keys: Iterable[str]) -> None:
        """A write of ``keys`` ran out of time, and may still be carried out: so they are `noted`, and what
        the tier hears about them later fences that off."""
        self.add([Debt(tier, key, 0.0, settled=True) for key in keys])

    def _known(self, debt: Debt) -> Debt | None:
        return self._keys.get(debt.key) if debt.skip is None else self._wide.same(debt)

    def _put(self, debt: Debt) -> None:
        if debt.skip is None:
            self._keys[debt.key] = debt
        else:
            self._wide.put(debt)

    def _tidy(self) -> None:
        if len(self._keys) > _MOST_KEYS:
            self._overflow()
        if len(self._wide) > _MOST_RANGES:
            latest = max(debt.before for debt in self._wide)
            self._wide.clear()
            self._wide.put(_everything(latest))
        self.debts = bool(self._keys or self._wide)

    def _overflow(self) -> None:
        settled = [key for key, debt in self._keys.items() if debt.settled]
        for key in settled:  # a net under what was done already
            del self._keys[key]
        if len(self._keys) > _MOST_KEYS // 2:
            latest = max(debt.before for debt in self._keys.values())
            self._keys.clear()
            self._wide.put(_everything(latest))

    def unsettled(self, keys: Iterable[str]) -> list[Debt]:
        """The debts about single ones of ``keys`` that the tier has yet to hear of."""
        known = self._keys
        return [debt for key in keys if (debt := known.get(key)) is not None and not debt.settled]

    def noted(self, keys: Iterable[str]) -> list[str]:
        """Those of ``keys`` of which it may have an older value that it should not, now or later."""
        known = self._keys
        return [key for key in keys if key in known]

    def within(self, ranges: Sequence[Debt]) -> list[str]:
        """The `noted` keys in ``ranges``."""
        with self._lock:
            return [key for key in self._keys if any(covers(one, key) for one in ranges)]

    def owed_of(self, ranges: Iterable[Debt]) -> list[Debt]:
        """The debts about just these ranges that the tier has yet to hear of."""
        with self._lock:
            known = [self._wide.same(one) for one in ranges]
        return [debt for debt in known if debt is not None and not debt.settled]

    def settled(self, debts: Iterable[Debt]) -> int:
        """The tier has heard of ``debts``; of one that was noted anew meanwhile it has not. How many of them
        it owed until now: a reader and the promoter may come with the same one."""
        fewer = 0
        with self._lock:
            for debt in debts:
                known = self._known(debt)
                if known is not None and known.before <= debt.before:
                    fewer += not known.settled
                    self._put(Debt(debt.tier, debt.key, debt.before, debt.skip, settled=True))
        return fewer

    def due(self, limit: int) -> list[Debt]:
        """Some debts that the tier has yet to hear of."""
        with self._lock:
            found = [debt for debt in self._wide if not debt.settled]
            for debt in self._keys.values():
                if len(found) >= limit:
                    break
                if not debt.settled:
                    found.append(debt)
        return found

    def owed(self) -> int:
        """How many debts the tier has yet to hear of."""
        with self._lock:
            return sum(not debt.settled for noted in (self._keys.values(), self._wide) for debt in noted)

    def owes_ranges(self) -> bool:
        """Whether the tier has yet to hear of a range."""
        with self._lock:
            return any(not debt.settled for debt in self._wide)

    def ranges(self, keys: Iterable[str]) -> Sequence[Debt]:
        """The debts about ranges that hold one of ``keys``, as they are now."""
        return self._wide.covering(keys)

    def too_old(
        self, found: Mapping[str, Entry[Any]], ranges: Sequence[Debt], *, drops: bool = True
    ) -> Collection[str]:
        """The keys of those entries that are older than what the tier was, or should have been, told.

        While a range is owed all of it is, whatever the times say: a clock that was set back makes what the
        tier should have dropped look new. An entry that does not say when it was written is too old while
        its key is owed; and for good where the tier cannot drop a range (``drops``), for what it held is
        still there. ``ranges`` are those of before the entries were read: somebody may have told the tier
        since, and its answer comes from before.
        """
        known = self._keys
        wide = [*ranges, *self.ranges(found)] if self._wide else ()
        refused: list[str] = []
        for key, entry in found.items():
            written = entry.created_at
            debt = known.get(key)
            if (debt is not None and _is_older(written, debt)) or (
                wide and any(covers(one, key) and _is_older(written, one, drops) for one in wide)
            ):
                refused.append(key)
        return refused


def _is_later(debt: Debt, known: Debt) -> bool:
    return debt.before > known.before or (debt.before == known.before and not known.settled)


def _is_older(written: float | None, debt: Debt, drops: bool = True) -> bool:
    if debt.skip is not None and not debt.settled:
        return True
    if written is None:
        everything = debt.skip == "" and debt.key == ""
        return everything or not debt.settled or not drops
    return written < debt.before


def _everything(latest: float) -> Debt:
    """What stands for all debts up to ``latest`` that are forgotten."""
    return Debt("*", "", latest + CLOCKS_APART, skip="", settled=True)
