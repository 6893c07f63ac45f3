"""What a memory tier asks of an eviction policy: be told of writes and uses, and name the next victim."""

from __future__ import annotations

from collections.abc import Sized
from typing import Protocol, TypeVar

__all__ = ["RECENTS", "Ranking"]

#: How many uses are remembered between two evictions. Older ones are forgotten, as in the read buffer
#: of Caffeine: a bound on memory and on what an eviction costs matters more than the order among
#: entries that are all in use.
RECENTS = 4096

SlotT = TypeVar("SlotT")


class Ranking(Protocol[SlotT]):
    """The order in which the slots of a tier are evicted. Its owner's lock guards it.

    Uses are noted cheaply (`note`) and settled only when a victim is wanted, so that reads do not pay for
    the policy. The tier keeps the bounds; a ranking knows slots, and no values.
    """

    @property
    def recents(self) -> Sized:
        """The uses that are noted and not settled yet."""
        ...

    def __len__(self) -> int: ...

    def __contains__(self, slot: object) -> bool: ...

    def note(self, slots: list[SlotT]) -> None:
        """The values of ``slots``, which nobody else has, were read in this order."""

    def put(self, slot: SlotT) -> None:
        """``slot`` was written: a new one, or one that is held and gets a new value."""

    def resize(self, slot: SlotT, weight: int) -> None:
        """``slot`` is held, and its new value weighs ``weight``; its field tells the old weight still."""

    def remove(self, slot: SlotT) -> None:
        """``slot`` is no longer held, and never will be again."""

    def pop_victim(self) -> SlotT:
        """Take out the slot to evict next. Raises `KeyError` when there is none."""
