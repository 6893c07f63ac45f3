"""Debts: what a tier has yet to hear of, and what storage must be able to do that keeps them in a journal."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from tiercache.entry import Entry

__all__ = ["CLOCKS_APART", "JUST_LATER", "Debt", "Glance", "SupportsJournal"]

#: How far apart the clocks of machines that share a tier may be, in seconds, where only the age of an entry
#: tells whether it is older than debts that are forgotten or lost.
CLOCKS_APART: Final = 60.0
#: Seconds by which a debt is later than the one that was noted before it, whatever the clock says.
JUST_LATER: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Debt:
    """A delete or overwrite that a tier has yet to hear of.

    ``tier``
        which tier, as its chains name it in the journal; ``"*"``: every one but the journal's own.
    ``key``
        the key as that tier knows it; with ``skip``, what the keys of a range begin with.
    ``before``
        Unix seconds: what was written earlier is not to be served.
    ``skip``
        of a range: what its keys do not begin with ("" leaves out nothing). ``None``: a single key.
    ``settled``
        the tier has heard of it since. It stays noted, for a command that timed out may arrive late.
    """

    tier: str
    key: str
    before: float
    skip: str | None = None
    settled: bool = False


@dataclass(frozen=True, slots=True)
class Glance:
    """What a journal says at one moment: a ``ticket`` for `SupportsJournal.fill`; the ``debts`` that concern
    the keys that were asked about; whether there is any at all that is not settled (``owing``); and when
    those of the keys that were ``deleted`` everywhere lately were, in Unix seconds: what is older, in
    whatever tier, was stored there too late."""

    ticket: Any
    debts: Sequence[Debt]
    owing: bool
    deleted: Mapping[str, float] = field(default_factory=dict)


@runtime_checkable
class SupportsJournal(Protocol):
    """Storage that outlives the process, and that several may share: it keeps the journal of its chains, and
    tells whether a key was written since somebody looked.

    `mset` and `mdelete` of such a tier take ``debts=`` besides: noted in the same transaction. `mdelete` and
    `clear` take ``everywhere=``: it is remembered when that was, see `Glance.deleted`. All of it raises what
    those raise.
    """

    journals: bool  #: False where it cannot be written: then nothing can be noted

    def glance(self, keys: Sequence[str]) -> Glance:
        """The debts about ``keys``, and a ticket. Waits for no writer."""
        ...

    def fill(self, entries: Mapping[str, Entry[Any]], ticket: Any) -> Collection[str]:
        """Store ``entries``, but for keys that any process wrote, deleted or cleared after the `glance` which
        gave ``ticket``: those are returned."""
        ...

    def record(self, debts: Sequence[Debt]) -> None:
        """Note ``debts``; of two about one key the later one stands."""
        ...

    def settle(self, debts: Sequence[Debt]) -> None:
        """Note that their tiers have heard of ``debts``."""
        ...

    def due(self, tier: str, limit: int) -> list[Debt]:
        """Some debts of ``tier`` that are not settled."""
        ...

    def owed(self) -> Mapping[str, int]:
        """How many debts are not settled, by tier."""
        ...

    def owes_nothing(self) -> bool:
        """Whether nothing is owed, as far as can be told where the storage itself fails. Never raises."""
        ...
