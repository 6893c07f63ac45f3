"""How much of what tiers hold is read at a time, which goes by what they say that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tiercache._chain.member import Member
from tiercache._guard.guard import Guard
from tiercache._running.bridge import BLOCKING, drive

__all__ = ["BYTES", "Pieces"]

#: The most bytes of values that are in memory at a time, unless it is one value.
BYTES: Final = 4 << 20
#: Values that are read at a time of a tier that cannot tell how large they are.
_UNTOLD: Final = 16


class Pieces:
    """Cuts keys into pieces to be read at a time, for one run. Not thread-safe."""

    def __init__(self) -> None:
        self._silent: set[Guard] = set()

    def of(self, members: Sequence[Member], keys: Sequence[str]) -> Iterator[list[str]]:
        """Those of ``keys`` (no duplicates) that some of ``members`` may hold, piece by piece: all that these
        hold together of the keys of one piece has `BYTES` at most, unless that is one key."""
        costs: dict[str, int] = {}
        for member in members:
            for key, cost in self._costs(member, keys).items():
                costs[key] = costs.get(key, 0) + cost
        piece: list[str] = []
        size = 0
        for key, cost in costs.items():
            if piece and size + cost > BYTES:
                yield piece
                piece, size = [], 0
            piece.append(key)
            size += cost
        if piece:
            yield piece

    def _costs(self, member: Member, keys: Sequence[str]) -> dict[str, int]:
        if keys and member.guard not in self._silent:
            try:
                lengths = drive(member.lengths(BLOCKING, keys))
            except Exception:  # noqa: BLE001 - the user of a server may lack the right; a read tells what is wrong
                lengths = None
            if lengths is not None:
                return lengths
            self._silent.add(member.guard)
        return dict.fromkeys(keys, BYTES // _UNTOLD)
