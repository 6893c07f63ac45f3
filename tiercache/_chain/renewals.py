"""Renewals: a use of an entry that slides gives it a later end, in every tier that holds it.

The entry in a tier ends with the present period, so that whoever reads it obeys that, another process or an
older version of this library too. A use moves the end on, if at least a quarter of the period has gone by
since it was moved last. So an entry lives for at least three quarters of a period after its last use, for one
period at most, and no use goes beyond the end of its life. (Where several processes have
memories of their own over a tier, at least half of one there: their quarters begin at different times.)

Memory renews by itself, as it is read: its fast road serves such an entry for a quarter, and leaves the hit
after that to the common one. In the other tiers it is done behind the caller. What they hold is read, and
written back with a later end only if it is of the very write that was used: where another process deleted or
wrote meanwhile is no place for a copy out of this one's memory. The write is a fill, with a ticket and fences
of before that read, so that whoever writes, or purges by age, in between wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tiercache._chain.batch import Batch
from tiercache._chain.journal import Fences
from tiercache._chain.member import Member
from tiercache._running.bridge import BLOCKING, Runtime, drive
from tiercache._running.owners import thrown
from tiercache.entry import Entry

if TYPE_CHECKING:
    from tiercache._chain.reading import Reader
    from tiercache._chain.stack import Binding, Stack

__all__ = ["Renewals", "Renewer", "renewed"]

#: The share of a period that goes by before a use renews again; the memory tier has the same.
QUARTER: Final = 0.25
#: Of a period: ends that differ by less are the same, rounded.
_ROUNDING: Final = 1e-6
#: The share of a period for which a key that was queued is not queued again, whatever came of it. Less than a
#: quarter, or the renewal that is due after one would be left out where the clock was read a moment later.
_PAUSE: Final = 0.125
_MOST_NOTED: Final = 65_536
_MOST_KEYS: Final = 128

#: By key: when the entry that was used was written, and when it was used (Unix seconds).
Uses: TypeAlias = "dict[str, tuple[float | None, float]]"


def renewed(entry: Entry[Any], used: float, cap: float | None = None) -> Entry[Any] | None:
    """``entry`` with the end that it has by a use at ``used`` (Unix seconds), in a tier that holds nothing
    for longer than ``cap``; ``None`` if that is none, or not worth a write."""
    sliding, created_at, fresh_until, expires_at = (
        entry.sliding, entry.created_at, entry.fresh_until, entry.expires_at
    )  # fmt: skip
    if sliding is None or created_at is None or fresh_until is None or expires_at is None:
        return None
    period = sliding.period
    if _wait(entry, used) > 0:
        return None
    until = min(used + period, created_at + sliding.life)
    end = until + max(0.0, expires_at - fresh_until)
    if cap is not None:
        end = min(end, created_at + cap)
    if not end - expires_at > _ROUNDING * period:
        return None
    return replace(entry, expires_at=end, fresh_until=until)


def _wait(entry: Entry[Any], when: float) -> float:
    """How many seconds after ``when`` a use of ``entry``, which slides, is worth a write; none or less: one
    then is, if it gives a later end at all."""
    sliding, fresh_until, expires_at = entry.sliding, entry.fresh_until, entry.expires_at
    if sliding is None or fresh_until is None or expires_at is None:
        return 0.0
    return min(fresh_until, expires_at) - when - (1 - QUARTER) * sliding.period


class Renewals:
    """What was queued of late, for one namespace of a chain. Bounded; thread-safe."""

    __slots__ = ("_noted",)

    def __init__(self) -> None:
        self._noted: dict[str, tuple[float | None, float]] = {}

    def begin(self, entries: Iterable[tuple[str, Entry[Any]]], used: float, now: float) -> Uses:
        """The uses of those of ``entries`` that are to be queued, at the monotonic time ``now``."""
        uses: Uses = {}
        # Without a lock: of two that come at once both may be queued, and the second finds nothing to do.
        noted = self._noted
        for key, entry in entries:
            written, until = noted.get(key, (None, now))
            if entry.sliding is None or (now < until and written == entry.created_at):
                continue
            if len(noted) >= _MOST_NOTED:
                noted.clear()
            noted[key] = entry.created_at, now + _PAUSE * entry.sliding.period
            uses[key] = entry.created_at, used
        return uses

    def too_early(self, entries: Mapping[str, Entry[Any]], wall: float, now: float) -> None:
        """A tier had nothing to do yet for these: the first use that is worth a write there is to be queued.
        (A tier above that cuts lives short has uses queued at any time.)"""
        for key, entry in entries.items():
            written, until = self._noted.get(key, (None, now))
            due = now + max(0.0, _wait(entry, wall))
            if written == entry.created_at and due < until:
                self._noted[key] = written, due

    def forget(self, keys: Iterable[str]) -> None:
        """They could not be queued: the next use is to try."""
        for key in keys:
            self._noted.pop(key, None)


class Renewer:
    """What renews for the view ``reader``. Thread-safe."""

    __slots__ = ("_reader", "_renewals", "_stack", "members")

    def __init__(self, reader: Reader, stack: Stack, binding: Binding) -> None:
        self._reader = reader
        self._stack = stack
        self._renewals = binding.renewals
        self.members = binding.members

    def used(self, member: Member, hits: Batch, slide: Mapping[str, Entry[Any]], now: float) -> Batch:
        """``hits`` of ``member``, those that ``slide`` with the end that this use gives them, for the tiers
        above; in itself and below they are renewed behind the caller."""
        later = {key: one for key, entry in slide.items() if (one := renewed(entry, now)) is not None}
        if not later:
            return hits
        depth = member.depth + 1 if member.renews else member.depth
        if depth < len(self.members):
            uses = self._renewals.begin(later.items(), now, self._stack.clock.monotonic())
            if uses and not self._stack.promoter.submit(_Renewal(self, uses, depth), entries=len(uses)):
                self._renewals.forget(uses)
        return hits.with_times_of(later)

    async def renew(self, runtime: Runtime, member: Member, uses: Uses) -> None:
        """Renew in ``member`` what it holds of ``uses``, unless somebody wrote it since."""
        epochs = self._reader.space.epochs
        ticket = epochs.open_ticket()
        try:
            await self._renew(runtime, member, uses, ticket)
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            epochs.close_ticket(ticket)

    async def _renew(self, runtime: Runtime, member: Member, uses: Uses, ticket: int) -> None:
        reader, journal, fences = self._reader, self._stack.journal, Fences()
        keys = reader.space.epochs.certain(list(uses))
        # The looks of a read, and one into the tier itself for the ticket of the fill.
        keepers = (*journal.looks.get(member.depth, ()), *((member.depth,) if member.has_fences else ()))
        if not keys or not await journal.look(runtime, self.members, keepers, keys, fences):
            return
        held = await member.read(runtime, keys, counted=False, deleted=fences.deleted)
        same = {key: entry for key, entry in held.objects.items() if entry.created_at == uses[key][0]}
        early = {key: entry for key, entry in same.items() if _wait(entry, uses[key][1]) > 0}
        if early:
            clock = self._stack.clock
            self._renewals.too_early(early, clock.time(), clock.monotonic())
        if member.renews or (member.has_fences and not member.guard.tier.journals):
            return  # the latter is only read
        later: dict[str, Entry[Any]] = {}
        for key, entry in same.items():
            one = renewed(entry, uses[key][1], member.cap)
            if one is not None:
                later[key] = one
        if later:
            batch = held.only(later).with_times_of(later)
            await reader.fill(runtime, member, batch, ticket, fences, promotion=None)


class _Renewal:
    """A job for the promoter: the uses of entries, which were found just above ``depth``, or there."""

    __slots__ = ("depth", "renewer", "uses")

    def __init__(self, renewer: Renewer, uses: Uses, depth: int) -> None:
        self.renewer = renewer
        self.uses = uses
        self.depth = depth

    def __call__(self) -> None:
        """Renew them."""
        for member in self.renewer.members[self.depth :]:
            drive(self.renewer.renew(BLOCKING, member, self.uses))

    def join(self, job: object) -> bool:
        """Renew what ``job`` would as well, if it can be; whether it can. See `WorkQueue`."""
        if not (
            isinstance(job, _Renewal)
            and job.renewer.members is self.renewer.members
            and job.depth == self.depth
            and len(job.uses) + len(self.uses) <= _MOST_KEYS
        ):
            return False
        self.uses |= job.uses  # a later use of one key stands
        return True
