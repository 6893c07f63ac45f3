"""The null tier: a cache over it is off. Holds nothing, and says of everything that it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tiercache.entry import Entry
from tiercache.protocols import Purge, Size

__all__ = ["NullTier"]

_NOTHING: Final = Size(0, None)


class NullTier:
    """Holds nothing: each look-up is a miss, and what is stored is gone. It turns a cache off, for tests.

    It is the only tier of its chain, which goes on in all else: keys and values are checked, loaders are
    paced and counted, and callers who ask at the same time share a load. Leases are given to all who ask, so
    that ``lock="shared"`` may stay as it is. Thread-safe.
    """

    #: Never waits for I/O, and has nothing that the journal would have to know of.
    nonblocking = True
    #: A chain of more tiers is refused: this one would be asked to list and to lease what the others hold.
    holds_nothing = True

    def __init__(self, *, name: str | None = None) -> None:
        self.name = "null" if name is None else name

    def __repr__(self) -> str:
        return f"NullTier(name={self.name!r})"

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:  # noqa: ARG002 - all are misses
        """Nothing."""
        return {}

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Take ``entries``, and keep none."""

    def mdelete(self, keys: Sequence[str]) -> None:
        """There is nothing to drop."""

    def close(self) -> None:
        """There is nothing to give back."""

    def scan(
        self,
        prefix: str,  # noqa: ARG002 - there is no key, whatever it begins with
        *,
        skip: str = "",  # noqa: ARG002 - as above
        cursor: Any = None,  # noqa: ARG002 - as above
        limit: int = 1000,  # noqa: ARG002 - as above
    ) -> tuple[list[str], Any]:
        """The only page, which is empty."""
        return [], None

    def clear(self, prefix: str, *, skip: str = "") -> None:
        """There is nothing to drop."""

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:  # noqa: ARG002 - nothing has an age
        """There is nothing to drop: zero."""
        return 0

    def size(self) -> Size:
        """Nothing."""
        return _NOTHING

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:  # noqa: ARG002 - see the class
        """All of ``keys``: nobody would find what another one stored, so that nobody need wait for it."""
        return list(keys)

    def release(self, keys: Sequence[str], token: str) -> None:
        """There is no lease to give up."""
