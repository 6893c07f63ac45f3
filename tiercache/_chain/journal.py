"""The journal: deletes and overwrites that a tier has yet to hear of, so that it never serves the old value.

When a tier fails while a key is deleted or overwritten, the chain owes it that: a *debt*. It is noted in the
durable tier of the chain (the first that is `SupportsJournal`), in the transaction of that tier's own delete
where the failed tier comes first, and in the process's `Arrears` of the tier. Before the tier serves the key
again the debt is *settled*: the key is deleted there (`Member.read`). Debts are also settled behind the
caller, as soon as the tier answers again.

A look at the durable tier, its *glance*, comes before the first read of a tier that it journals for, and
before a load. It gives the debts about the keys at hand, whichever process noted them, and a ticket: a
promotion or a loaded value is stored into a durable tier only if no process wrote the key since
(`SupportsJournal.fill`).

Without a durable tier the arrears alone hold the debts: bounded, and as long as the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from tiercache._guard.guard import Guard
from tiercache._running.bridge import BLOCKING, Runtime, drive
from tiercache._running.ports import Port
from tiercache._running.promoter import Promoter
from tiercache.errors import TierFull
from tiercache.forks import reset_after_fork
from tiercache.protocols import Debt, Glance, SupportsJournal

if TYPE_CHECKING:
    from tiercache._chain.member import Member

__all__ = ["Fences", "Journal", "Missed"]

_PAGE = 500  # debts settled by one call
_PAUSE = 0.5  # seconds between two attempts to settle what is owed, behind the caller


class Fences:
    """What the durable tiers said when they were looked at."""

    __slots__ = ("deleted", "tickets")

    def __init__(self) -> None:
        #: By depth; ``None`` of a tier that did not answer.
        self.tickets: dict[int, Any] = {}
        #: When keys, as the tiers below know them, were deleted lately; see `Glance.deleted`.
        self.deleted: dict[str, float] = {}


class Journal:
    """The journal of one root chain. Thread-safe."""

    def __init__(
        self, guards: Sequence[Guard], promoter: Promoter, keep: Callable[[], None] = lambda: None
    ) -> None:
        """``keep`` has what the tiers owe outlive the chain, as long as there are those tiers."""
        self._keep = keep
        self._guards = guards
        self._promoter = promoter
        self.names = tuple(map(_name, guards))
        keepers = [
            depth
            for depth, guard in enumerate(guards)
            if hasattr(guard.tier, "glance") and isinstance(guard.tier, SupportsJournal)
        ]
        writable = [depth for depth in keepers if guards[depth].tier.journals]
        #: The depth of the tier that keeps the journal, the first that can; ``None``: the arrears alone do.
        self.depth: int | None = next(iter(writable or keepers), None)
        self.keepers = tuple(keepers)
        #: Before the tier at a depth is read, these are to be looked at, if they were not yet.
        self.looks: dict[int, tuple[int, ...]] = {}
        for depth, guard in enumerate(guards):
            if self.depth is not None and not getattr(guard.tier, "nonblocking", False):
                above = [keeper for keeper in keepers if keeper < depth]
                looks = tuple(keeper for keeper in dict.fromkeys([self.depth, *above]) if keeper != depth)
                if looks:
                    self.looks[depth] = looks
        #: Whether some tier has yet to hear of something; looked at without the lock.
        self.owing = False
        self._noted = 0  # how often something was
        self._owed: dict[str, int] = {}
        self._next_try = 0.0
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """A new lock: another thread of the parent may have held the old one."""
        self._lock = threading.Lock()
        self._settling = False

    # -- looking -----------------------------------------------------------------------------------

    async def look(
        self,
        runtime: Runtime,
        members: Sequence[Member],
        keepers: Iterable[int],
        keys: Sequence[str],
        fences: Fences,
    ) -> bool:
        """Look at the durable tiers at the depths ``keepers``, for what concerns ``keys``, and add what they
        say to ``fences``. False if the journal cannot be read, and may owe something: then no tier that it is
        kept for may be asked."""
        known = True
        for depth in keepers:
            member = members[depth]
            if depth not in fences.tickets:
                glance = await self._glance(runtime, member, self._names_of(members, keys))
                fences.tickets[depth] = None if glance is None else glance.ticket
                if glance is not None:
                    if glance.deleted:
                        fences.deleted.update(glance.deleted)
                    if glance.debts or glance.owing:  # seldom
                        await self._learn(runtime, member, glance)
            if fences.tickets[depth] is None and not member.guard.tier.owes_nothing():
                known = False
        return known

    async def _learn(self, runtime: Runtime, member: Member, glance: Glance) -> None:
        self._note(glance.debts, member.depth)  # of a tier that can only be read, too: others wrote them
        if member.depth == self.depth:
            if glance.owing and not self._owed:
                await self._count(runtime, member)
            self.owing = self.owing or glance.owing

    @staticmethod
    async def _glance(runtime: Runtime, member: Member, keys: Sequence[str]) -> Glance | None:
        guard = member.guard
        try:
            return await guard.command(member.port(runtime).glance, keys, reads=True)
        except Exception as error:  # noqa: BLE001 - a read never raises because a tier is ill
            guard.failed(error, "look into its journal")
            return None

    def _names_of(self, members: Sequence[Member], keys: Sequence[str]) -> Sequence[str]:
        """``keys`` as the tiers know them, for which the journal is kept."""
        folded = [members[depth].fold_all(keys) for depth in self.looks]
        if len(folded) == 1 or all(names == folded[0] for names in folded[1:]):
            return folded[0] if folded else ()
        return list(dict.fromkeys(name for names in folded for name in names))

    def _note(self, debts: Iterable[Debt], keeper: int) -> None:
        for debt in debts:
            for depth, name in enumerate(self.names):
                if debt.tier == name or (debt.tier == "*" and depth != keeper and depth in self.looks):
                    self._guards[depth].arrears.add([debt])

    async def _count(self, runtime: Runtime, member: Member) -> None:
        try:
            self._owed = dict(await member.port(runtime).owed())
        except Exception as error:  # noqa: BLE001 - statistics never break a call
            member.guard.failed(error, "count what its journal holds")

    # -- noting ------------------------------------------------------------------------------------

    async def note(
        self,
        runtime: Runtime,
        members: Sequence[Member],
        debts: Sequence[Debt],
        *,
        recorded: bool | None = None,
    ) -> bool:
        """Note ``debts``. False if there is a durable tier and it could not, or failed itself: then some of
        them end with the process. ``recorded``: it has done so already, or has just failed to."""
        if not debts:
            return True
        new: dict[str, int] = {}
        for debt in debts:
            guard = self._guards[self.names.index(debt.tier)]
            if debt.settled:
                guard.arrears.add([debt])
                continue
            new[debt.tier] = new.get(debt.tier, 0) + guard.arrears.owe([debt])
            with guard.counters.lock:
                guard.counters.journalled += 1
        if new:
            with self._lock:
                self._noted += 1
                self.owing = True
            self._next_try = max(self._next_try, monotonic() + _PAUSE)  # they have just failed
        self._keep()
        if self.depth is None:
            return True
        keeper = members[self.depth]
        # What it could not do itself, it need not note: another process reads it without asking for notes.
        others = [debt for debt in debts if debt.tier != self.names[self.depth]]
        if others and not recorded:
            if recorded is False or not keeper.guard.tier.journals:
                return False
            try:
                await keeper.guard.command(keeper.port(runtime).record, others)
            except Exception as error:  # noqa: BLE001 - the caller is told by the answer
                keeper.guard.failed(error, "record in its journal")
                return False
        for debt in others:
            self._owed[debt.tier] = self._owed.get(debt.tier, 0) + new.pop(debt.tier, 0)
        return len(others) == len(debts)

    def heard(self, depth: int, keys: Mapping[str, float]) -> None:
        """The tier at ``depth`` was told about ``keys``: what is older than the time beside each stays fenced
        off where the tier was ever owed something, or where a write that timed out may still arrive."""
        guard = self._guards[depth]
        owed = guard.arrears.unsettled(keys)
        fenced = guard.arrears.noted(keys)
        fences = {key: Debt(self.names[depth], key, keys[key], settled=True) for key in fenced}
        for debt in owed:
            fences.pop(debt.key, None)
        guard.arrears.add(fences.values())
        if owed:
            self.settled(depth, [replace(debt, before=max(debt.before, keys[debt.key])) for debt in owed])
        if fences and self.depth is not None:
            told = partial(self._settle_behind, list(fences.values()))
            self._promoter.submit(told, entries=len(fences), size=0)

    def cleared(self, depth: int, fences: Sequence[Debt]) -> None:
        """The tier at ``depth`` has dropped the ranges of ``fences``: it has heard of those, and of the keys
        in them. (Nothing is noted about ranges that it was not owed: there would be no end of them.)"""
        arrears = self._guards[depth].arrears
        owed = arrears.owed_of(fences)
        if owed:
            now = fences[0].before
            self.settled(depth, [replace(debt, before=max(debt.before, now)) for debt in owed])
        keys = arrears.within(fences)
        if keys:
            self.heard(depth, dict.fromkeys(keys, fences[0].before))

    def settled(self, depth: int, debts: Sequence[Debt]) -> None:
        """The tier at ``depth`` has heard of ``debts``. The durable tier is told behind the caller: what it
        does not learn is settled once more."""
        guard = self._guards[depth]
        fewer = guard.arrears.settled(debts)
        with guard.counters.lock:
            guard.counters.settled += fewer
        if self.depth is not None:
            self._promoter.submit(partial(self._settle_behind, debts), entries=len(debts), size=0)

    def _settle_behind(self, debts: Sequence[Debt]) -> bool:
        """Note in the durable tier that ``debts`` are settled; whether it could."""
        assert self.depth is not None  # noqa: S101 - its caller asked
        guard = self._guards[self.depth]
        try:
            drive(guard.command(BLOCKING.port(guard.tier).settle, debts))
        except Exception as error:  # noqa: BLE001 - what is not noted is settled once more
            guard.failed(error, "settle in its journal")
            return False
        for debt in debts:
            if not debt.settled:
                self._owed[debt.tier] = max(0, self._owed.get(debt.tier, 0) - 1)
        return True

    # -- settling behind the caller ----------------------------------------------------------------

    def pursue(self) -> None:
        """Something was found to be owed, perhaps noted by another chain: have it settled. Of a range that
        is owed a tier serves nothing until then."""
        self.owing = True
        self.kick()

    def kick(self) -> None:
        """Have what is owed settled by the promoter, now and then. Call it when `owing`."""
        with self._lock:
            now = monotonic()
            if self._settling or now < self._next_try:
                return
            self._next_try = now + _PAUSE
            self._settling = True
        if not self._promoter.submit(self._settle_all, entries=0, size=0):
            self._settling = False

    def _settle_all(self) -> None:
        noted = self._noted
        try:
            left = False
            for depth, guard in enumerate(self._guards):
                if not getattr(guard.tier, "nonblocking", False):
                    left = drive(self._settle_tier(depth, guard)) or left
            with self._lock:
                if self._noted == noted:  # else more was missed, by a tier that was looked after already
                    self.owing = left
        finally:
            self._settling = False

    async def _settle_tier(self, depth: int, guard: Guard) -> bool:
        """Settle what the tier owes; whether something is left."""
        port = BLOCKING.port(guard.tier, guard.lane)
        while debts := await self._due(depth, guard):
            # Somebody may have told the tier of a newer value since they were noted, which is to stay.
            guard.arrears.add(debts)
            keys = [debt.key for debt in guard.arrears.unsettled(debt.key for debt in debts)]
            if keys and await guard.delete(port, keys, counted=False) is not None:
                return True
            heard = [debt for debt in debts if debt.skip is None]
            for debt in debts:
                if debt.skip is not None:
                    if not await self._clear(guard, port, debt):
                        return True
                    heard.append(debt)
            fewer = guard.arrears.settled(heard)
            with guard.counters.lock:
                guard.counters.settled += fewer
            if self.depth is not None and not self._settle_behind(heard):
                return True  # or they would be due once more, at once
        return False

    @staticmethod
    async def _clear(guard: Guard, port: Port, debt: Debt) -> bool:
        """Clear a range as the tier can; false if it cannot just now."""
        assert debt.skip is not None  # noqa: S101 - its caller asked
        try:
            if port.clear is not None:
                await guard.command(port.clear, debt.key, skip=debt.skip)
                return True
            assert port.scan is not None  # noqa: S101 - what can do neither owes no range
            cursor: Any = None
            while True:
                keys, cursor = await guard.command(port.scan, debt.key, skip=debt.skip, cursor=cursor)
                if keys:
                    await guard.command(port.mdelete, keys)
                if cursor is None:
                    return True
        except Exception as error:  # noqa: BLE001 - it is tried again
            guard.failed(error, "clear")
            return False

    async def _due(self, depth: int, guard: Guard) -> list[Debt]:
        due = guard.arrears.due(_PAGE)
        if due or self.depth is None or depth == self.depth:
            return due
        keeper = self._guards[self.depth]
        if not keeper.tier.journals:  # it cannot note that they are settled: they would be due for ever
            return due
        try:
            return list(await BLOCKING.port(keeper.tier).due(self.names[depth], _PAGE))
        except Exception as error:  # noqa: BLE001 - it is tried again
            keeper.failed(error, "read its journal")
            return []

    def owed(self, depth: int) -> int:
        """How many debts the tier at ``depth`` has yet to hear of, as far as this process knows."""
        return max(self._guards[depth].arrears.owed(), self._owed.get(self.names[depth], 0))


class Missed:
    """What the tiers miss of one write or delete, while it goes through them, lowest first."""

    __slots__ = ("_debts", "_journal", "_members", "_recorded", "_runtime")

    def __init__(self, journal: Journal, runtime: Runtime, members: Sequence[Member]) -> None:
        self._journal = journal
        self._runtime = runtime
        self._members = members
        self._debts: list[Debt] = []
        self._recorded: bool | None = None

    def along(self, member: Member) -> Sequence[Debt]:
        """What ``member`` is to note in the same transaction: what those below it missed."""
        return self._debts if member.depth == self._journal.depth else ()

    async def confirmed(self, member: Member) -> None:
        """It did its part, and noted what it was given along."""
        if member.depth == self._journal.depth and self._debts:
            await self._journal.note(self._runtime, self._members, self._debts, recorded=True)
            self._debts = []

    def missed(self, member: Member, debts: Sequence[Debt], failure: Exception) -> None:
        """It failed, and is owed ``debts``."""
        # One that is full has no room for values, but may well have some for notes.
        if member.depth == self._journal.depth and not isinstance(failure, TierFull):
            self._recorded = False
        self._debts = [*self._debts, *debts]

    async def end(self) -> bool:
        """Note what is left. False if some of it ends with the process, though there is a durable tier."""
        journal = self._journal
        noted = await journal.note(self._runtime, self._members, self._debts, recorded=self._recorded)
        if journal.owing:
            journal.kick()
        return noted


def _name(guard: Guard) -> str:
    """What the journal calls the tier: after its place, where it has one that any process calls the same, so
    that chains know it by whatever name; else after its name."""
    place = getattr(guard.tier, "place", None) or getattr(guard.tier, "location", None)
    if isinstance(place, tuple) and place and all(isinstance(part, str) for part in place):
        from hashlib import blake2b  # here: memory has no place, and OpenSSL comes with it

        digest = blake2b("\0".join(place).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        return f"{place[0]}@{digest}"
    return guard.name
