"""What the times of a slot follow from: mostly from something that it has in common with many others.

A number of its own costs a slot 32 bytes, and a field 8. So what was set for one and the same life shares it
(`Life`), and what is unusual about an entry that came ready-made is apart (`Told`).
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from tiercache.entry import Entry, Sliding

__all__ = ["PLAIN", "Life", "Slides", "Terms", "Times", "set_for", "slides", "told"]

#: Seconds. An end that is further away is rounded by more than what idle times are asked for.
_TELLING = 1e9
#: The share of a period for which an entry that slides is served by the fast road: what then is used is
#: renewed in all tiers, and so this is also how often at most.
QUARTER = 0.25

#: ``expires_at``, ``fresh_until`` and ``codec``, as in `Entry`.
Times: TypeAlias = "tuple[float | None, float | None, str]"


class _Dated(Protocol):
    """The fields of a slot that terms look at."""

    maker: str
    deadline: float
    expiry: float
    until: float | None
    created_at: float | None


class Terms:
    """Of an entry that came with its times, is never stale, and is of the codec of who wrote it."""

    __slots__ = ()

    #: Whether there is a soft expiry.
    soft = False
    #: How uses renew the life, if they do.
    sliding: Sliding | None = None

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


class Slides(Terms):
    """Of one whose life uses renew: its own, since its times are nobody else's.

    The fast road serves it for a quarter of the period: the hit after that is answered by the common road,
    which renews it. So hits pay nothing for it but one in each quarter. (The alternative, to note each hit
    and look through the notes, would find out too late what the tiers below are to be told.)
    """

    __slots__ = ("_codec", "_ends", "_held", "_keep", "_soft_end", "fresh", "fresh_until", "sliding")

    #: The deadline is earlier than the end, so that a batch is to look at each.
    soft = True

    sliding: Sliding

    def __init__(self, entry: Entry[object], since: float, now: float, cap: float) -> None:
        """Of ``entry``, which has all its times, and is held for ``cap`` seconds at most from ``now`` on, a
        monotonic time, which is ``since`` by the wall clock."""
        sliding, created_at, expires_at, fresh_until = (
            entry.sliding, entry.created_at, entry.expires_at, entry.fresh_until
        )  # fmt: skip
        assert sliding is not None and created_at is not None  # noqa: S101, PT018 - the caller asked
        assert expires_at is not None and fresh_until is not None  # noqa: S101, PT018 - the same
        self.sliding = sliding
        self._codec = entry.codec
        self._keep = max(0.0, expires_at - fresh_until)
        #: Monotonic: the end of its life, of what this tier holds, and of the present period.
        self._ends = now + (created_at + sliding.life - since)
        self._held = now + min(cap, max(expires_at - since, created_at + sliding.life + self._keep - since))
        self._soft_end = now + (fresh_until - since)
        self.fresh_until = fresh_until
        #: Monotonic: until then it is fresh.
        self.fresh = min(self._soft_end, now + (expires_at - since), self._held)

    def deadline(self) -> float:
        """Until when the fast road may serve it."""
        if self._soft_end >= self._ends:  # no use can renew it any more
            return self.fresh
        return min(self.fresh, self._soft_end - (1 - QUARTER) * self.sliding.period)

    def use(self, slot: _Dated, now: float, wall: float) -> None:
        """Renew the life of ``slot``, whose terms these are, with a use ``now`` while it is fresh. The lock
        is held. The deadline comes last: see `Slot`."""
        if now < slot.deadline:
            return
        created_at: float = slot.created_at  # type: ignore[assignment]  # what slides has one
        soft_end = min(now + self.sliding.period, self._ends)
        if soft_end > self._soft_end:
            self._soft_end = soft_end
            self.fresh_until = min(wall + self.sliding.period, created_at + self.sliding.life)
            slot.expiry = max(slot.expiry, min(soft_end + self._keep, self._held))
            self.fresh = min(soft_end, self._held)
        slot.deadline = self.deadline()

    def times(self, _slot: _Dated) -> Times:
        return self.fresh_until + self._keep, self.fresh_until, self._codec

    def times_now(self, now: float, wall: float) -> tuple[float, float]:
        """When it expires and until when it is fresh, by the monotonic clock and told by the wall clock."""
        fresh_until = wall + (self.fresh - now)
        return fresh_until + self._keep, fresh_until


def slides(entry: Entry[object]) -> bool:
    """Whether there is all in ``entry`` that `Slides` wants."""
    return entry.sliding is not None and None not in (entry.created_at, entry.expires_at, entry.fresh_until)


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
