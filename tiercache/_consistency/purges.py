"""Purges by age: what is to be gone, for fills that begin while one goes on, or have read before it was over.

To keep fills out altogether meanwhile, as a clear does, would keep all writes of the namespace waiting for a
tier that looks at each of its entries.
"""

from __future__ import annotations

from math import inf

from tiercache._consistency.operations import Operation

__all__ = ["Purges"]


class Purges:
    """Those of one namespace. Not thread-safe: each call is made under the lock of the namespace's epochs."""

    __slots__ = ("noted",)

    def __init__(self) -> None:
        #: What was written until when (Unix seconds) is to be gone, for tickets of before which serial.
        self.noted: dict[Operation, tuple[float, float]] = {}

    def begin(self, purge: Operation, until: float) -> None:
        """What was written ``until`` then, is to be gone from now on."""
        self.noted[purge] = until, inf

    def is_going_on(self, purge: Operation) -> bool:
        """Whether it was not ended yet."""
        return purge in self.noted and self.noted[purge][1] == inf

    def end(self, purge: Operation, serial: int) -> None:
        """From now on it is so for tickets of before ``serial`` alone."""
        until, _ = self.noted.pop(purge)
        less = [one for one, (other, end) in self.noted.items() if end < inf and other <= until]
        for one in less:  # who was told of that is told of this
            del self.noted[one]
        self.noted[purge] = until, serial

    def until(self, ticket: int) -> float:
        """Until when what is to be gone was written, for a fill with ``ticket``."""
        return max([until for until, end in self.noted.values() if end > ticket], default=-inf)

    def forget(self) -> None:
        """There are no tickets any more."""
        self.noted = {purge: one for purge, one in self.noted.items() if one[1] == inf}
