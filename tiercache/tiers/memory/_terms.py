"""What the times of a slot follow from: mostly from something that it has in common with many others.

A number of its own costs a slot 32 bytes, and a field 8. So what was set for one and the same life shares it
(`Life`), and what is unusual about an entry that came ready-made is apart (`Told`).
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

__all__ = ["PLAIN", "Life", "Terms", "Times", "set_for", "told"]

#: Seconds. An end that is further away is rounded by more than what idle times are asked for.
_TELLING = 1e9

#: ``expires_at``, ``fresh_until`` and ``codec``, as in `Entry`.
Times: TypeAlias = "tuple[float | None, float | None, str]"


class _Dated(Protocol):
    """The fields of a slot that terms look at."""

    maker: str
    expiry: float
    until: float | None
    created_at: float | None


class Terms:
    """Of an entry that came with its times, is never stale, and is of the codec of who wrote it."""

    __slots__ = ()

    #: Whether there is a soft expiry.
    soft = False

    def times(self, slot: _Dated) -> Times:
        """The times of ``slot``, whose terms these are."""
        return slot.until, None, slot.maker


PLAIN = Terms()


class _Told(Terms):
    """Of one that came with more."""

    __slots__ = ("_codec", "_fresh_until", "soft")

    def __init__(self, fresh_until: float | None, codec: str) -> None:
        self._fresh_until = fresh_until
        self._codec = codec
        self.soft = fresh_until is not None

    def times(self, slot: _Dated) -> Times:
        return slot.until, self._fresh_until, self._codec


def told(fresh_until: float | None, codec: str, maker: str) -> Terms:
    """The terms of an entry that came with these, written by ``maker``."""
    return PLAIN if fresh_until is None and codec == maker else _Told(fresh_until, codec)


class Life(Terms):
    """Of all that is set at once for ``seconds``, and kept as stale for ``keep`` more, but held for ``cap``
    seconds at most. Their end tells when they were written."""

    __slots__ = ("_cap", "_keep", "_seconds", "soft")

    def __init__(self, seconds: float, keep: float, cap: float) -> None:
        self._seconds, self._keep, self._cap = seconds, keep, cap
        self.soft = keep > 0

    def times(self, slot: _Dated) -> Times:
        fresh_until = slot.created_at + self._seconds  # type: ignore[operator]  # who sets at once knows when
        return (
            (fresh_until + self._keep, fresh_until, slot.maker)
            if self.soft
            else (fresh_until, None, slot.maker)
        )

    def written(self, slot: _Dated) -> float:
        """The monotonic time at which ``slot`` was written, within rounding."""
        created_at: float = slot.created_at  # type: ignore[assignment]  # as above
        return slot.expiry - min(created_at + self._seconds + self._keep - created_at, self._cap)


class _LongLife(Life):
    """Of one so long that its end does not tell when it began."""

    __slots__ = ()


def set_for(seconds: float, keep: float, cap: float) -> Life:
    """The terms of what is set at once; see `Life`."""
    return (Life if seconds + keep < _TELLING else _LongLife)(seconds, keep, cap)
