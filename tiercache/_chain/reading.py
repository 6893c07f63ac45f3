"""Looking up, and promoting what was found: the reading half of the core.

A `Reader` is one view's: a namespace and a codec over a stack. It reaches tiers and futures only through the
`Runtime` it is given, so that the same lines serve blocking and async callers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from math import inf
from time import perf_counter
from typing import Any, TypeVar

from tiercache._chain.answers import note
from tiercache._chain.batch import Batch
from tiercache._chain.journal import Fences
from tiercache._chain.member import Member
from tiercache._chain.promotions import Promotion
from tiercache._chain.renewals import Renewer
from tiercache._chain.stack import Stack
from tiercache._consistency.operations import Operation, holding
from tiercache._running.bridge import BLOCKING, Runtime, drive
from tiercache._running.event_loops import is_cancellation
from tiercache._running.owners import Owner, owned, thrown
from tiercache._running.watching import Watch, watched
from tiercache.entry import Entry
from tiercache.errors import CodecError, TierUnavailable
from tiercache.protocols import Codec

__all__ = ["Reader"]

D = TypeVar("D", bound=Collection[str])


class Reader:
    """One view of a stack, for reading. Thread-safe."""

    def __init__(
        self, stack: Stack, path: tuple[str, ...], codec: Codec[Any] | None, model: str = ""
    ) -> None:
        self.stack = stack
        self.path = path
        self.codec = codec
        #: Whose answers they are, for the ledger; "" where nobody said.
        self.model = model
        self._binding = stack.bind(path, codec)  # it lives as long as somebody has it
        self.members = self._binding.members
        self.space = self._binding.space
        #: What counts the keys that callers are given the values of, if these are counted.
        self.popular = self._binding.popular
        self._lower = self.members[1:]
        self.renewer = Renewer(self, stack, self._binding)
        self._copy: Callable[[Any], Any] | None = getattr(codec, "copy", None)
        #: For the ledger.
        self.tab = self._binding.tab
        if model:
            self.tab.model = model

    @property
    def copies(self) -> bool:
        """Whether values are mutable, so that no two callers may get the same one."""
        return self._copy is not None

    def copied(self, value: Any) -> Any:
        """A copy of ``value`` where values are mutable."""
        if self._copy is None:
            return value
        try:
            return self._copy(value)
        except Exception:  # noqa: BLE001 - a loader's value that its codec refuses is handed out all the same
            return value

    # -- reading -----------------------------------------------------------------------------------

    async def lookup(
        self,
        runtime: Runtime,
        keys: Sequence[str],
        *,
        counted: bool = True,
        stale: dict[str, tuple[Entry[Any], str]] | None = None,
        watch: Watch | None = None,
    ) -> Batch:
        """The entries under ``keys`` (no duplicates): each tier is asked once, top down, for what is
        missing, and hits are promoted. The caller counts the chain's hits and misses.

        A stale entry is a miss: the key is looked for further down. The freshest is put into ``stale``,
        with the name of its tier.

        Where there is an observer, ``watch`` is what it is told by.
        """
        read = self._read
        if self.stack.observer is not None:
            if watch is None:
                watch = Watch(self.stack.observer.lookup)
                return await watched(
                    watch, self.lookup(runtime, keys, counted=counted, stale=stale, watch=watch)
                )
            read = partial(self._read_watched, watch)
        epochs = self.space.epochs
        top = self.members[0]
        asked = keys if top.nonblocking else epochs.certain(keys)
        fences = Fences()
        if self._is_not_held(top, keys, counted=counted):
            found = Batch({}, None)
        else:
            found = await read(runtime, top, asked, fences, stale, counted=counted)
        if len(found) == len(keys) or len(self.members) == 1:
            return found
        ticket = epochs.open_ticket()
        try:
            below: list[Batch] = []
            missing, rises = keys, False
            for member in self._lower:
                seen = found.objects
                if seen:
                    missing = [key for key in keys if key not in seen]
                asked = epochs.certain(missing)
                if not asked:
                    break
                hits = await read(runtime, member, asked, fences, stale, counted=counted)
                below.append(hits)
                if hits.objects:
                    found, rises = found.merged(hits) if seen else hits, True
            if rises:
                await self._promote(runtime, below, ticket, fences)
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            epochs.close_ticket(ticket)
        if self.stack.journal.owing:
            self.stack.journal.kick()
        return found

    def _is_not_held(self, top: Member, keys: Sequence[str], *, counted: bool) -> bool:
        """Whether memory over other tiers holds nothing under a single key, not even what is past its time:
        then that is its answer. (Where memory is all there is it is asked: nobody promotes into it, and
        its reads drop what has expired.)"""
        if not top.puts or len(keys) != 1 or len(self.members) == 1 or top.guard.arrears.debts:
            return False
        start = perf_counter()
        memory: Any = top.fast
        if memory.holds(keys[0]):
            return False
        if counted:
            top.guard.missed(perf_counter() - start)
        return True

    async def _read_watched(
        self, watch: Watch, runtime: Runtime, member: Member, keys: Sequence[str], *args: Any, counted: bool
    ) -> Batch:
        """`_read`, of which an observer is told unless it is of memory."""
        if member.nonblocking or not keys:
            return await self._read(runtime, member, keys, *args, counted=counted)
        watch.begin(len(keys))
        hits = await self._read(runtime, member, keys, *args, counted=counted)
        watch.answered(member.guard.name, len(keys), len(hits))
        return hits

    async def _read(
        self,
        runtime: Runtime,
        member: Member,
        keys: Sequence[str],
        fences: Fences,
        stale: dict[str, tuple[Entry[Any], str]] | None,
        *,
        counted: bool,
    ) -> Batch:
        """The fresh hits of ``member``, which is not asked where nobody knows what it is owed."""
        if not keys:
            return Batch({}, None)
        journal = self.stack.journal
        keepers = journal.looks.get(member.depth)
        if keepers and not await journal.look(runtime, self.members, keepers, keys, fences):
            if counted:
                member.guard.unasked(len(keys))
            return Batch({}, None)
        hits = await member.read(runtime, keys, counted=counted, deleted=fences.deleted)
        if not hits.objects:
            return hits
        hits = self._fresh(member, hits, stale, counted=counted)
        if hits.objects:
            note(self.stack, hits.objects, member.guard.name)
            if counted and self.stack.books is not None:
                with self.stack.counters.lock:
                    self.tab.hits[member.depth] += len(hits.objects)
        return hits

    async def stored(
        self, runtime: Runtime, member: Member, keys: Sequence[str], *, raw: bool = False
    ) -> dict[str, Entry[Any]]:
        """What ``member`` keeps under ``keys`` (no duplicates), as bytes unless ``raw``, with the journal
        asked first: see `Member.stored`. Raises `TierUnavailable` where the journal cannot be read and may
        owe something."""
        if not keys:
            return {}
        fences = Fences()
        keepers = self.stack.journal.looks.get(member.depth, ())
        if not await self.stack.journal.look(runtime, self.members, keepers, keys, fences):
            name = member.guard.name
            raise TierUnavailable(f"{name}: the journal of what it has yet to hear cannot be read", tier=name)
        return await member.stored(runtime, keys, fences.deleted, raw=raw)

    async def fences(self, runtime: Runtime, keys: Sequence[str]) -> Fences:
        """What the tiers say that several processes share, for values of ``keys`` that are made from now on:
        see `write_all`."""
        fences = Fences()
        journal = self.stack.journal
        if journal.keepers:
            await journal.look(runtime, self.members, journal.keepers, keys, fences)
        return fences

    def _fresh(
        self, member: Member, hits: Batch, stale: dict[str, tuple[Entry[Any], str]] | None, *, counted: bool
    ) -> Batch:
        """``hits`` of ``member`` without what is stale, which goes into ``stale``; the others were used."""
        timed = {key: entry for key, entry in hits.objects.items() if entry.fresh_until is not None}
        if not timed:
            return hits
        now = self.stack.clock.time()
        late = {
            key: fresh_until
            for key, entry in timed.items()
            if (fresh_until := entry.fresh_until) is not None
            and not fresh_until > now  # so that NaN is stale too
        }
        slide = {key: entry for key, entry in timed.items() if entry.sliding is not None and key not in late}
        if slide:
            hits = self.renewer.used(member, hits, slide, now)
        if not late:
            return hits
        if counted:
            member.guard.no_hits(len(late))
        if stale is not None:
            for key, fresh_until in late.items():
                if key not in stale or not fresh_until <= (stale[key][0].fresh_until or 0.0):
                    stale[key] = hits.objects[key], member.guard.name
        return hits.only([key for key in hits.objects if key not in late])

    # -- promoting ---------------------------------------------------------------------------------

    async def _promote(self, runtime: Runtime, below: list[Batch], ticket: int, fences: Fences) -> None:
        """Copy hits into every tier above the one that had them. ``below[i]`` came from tier i + 1."""
        behind: list[tuple[Member, Batch]] = []
        rising: Batch | None = None
        for depth in range(len(below) - 1, -1, -1):
            hits = below[depth]
            if hits.objects:
                rising = hits if rising is None else rising.merged(hits)
            if rising is None:
                continue
            member = self.members[depth]
            if member.nonblocking:
                if not self._fill_at_once(member, rising, ticket):
                    await self.fill(runtime, member, rising, ticket, fences)
            else:
                behind.append((member, rising))
        if not behind:
            return
        if self.stack.promote_inline:
            for member, batch in behind:
                await self.fill(runtime, member, batch, ticket, fences)
            return
        if self._copy is not None:
            behind = [
                (member, batch.detached(self._copy, objects=not member.stores_bytes))
                for member, batch in behind
            ]
        entries = size = 0
        for _, batch in behind:
            entries += len(batch)
            size += batch.size()
        epochs = self.space.epochs
        job = Promotion(self._promote_behind, behind, epochs.share_ticket(ticket), fences, size)
        if not self.stack.promoter.submit(job, entries=entries, size=size):
            epochs.close_ticket(ticket)
            with self.stack.counters.lock:
                self.stack.counters.promotions_dropped += entries

    def _promote_behind(
        self, behind: list[tuple[Member, Batch]], ticket: int, tickets: int, fences: Fences
    ) -> None:
        try:
            for member, batch in behind:
                drive(self.fill(BLOCKING, member, batch, ticket, fences))
        finally:
            for _ in range(tickets):
                self.space.epochs.close_ticket(ticket)

    def _fill_at_once(self, member: Member, batch: Batch, ticket: int) -> bool:
        """Promote a single entry into memory, all of it under the lock of the epochs: nobody ever sees it
        going on, so that it needs no operation that others wait for, and leaves nothing to clean up. These
        are most of what `fill` of one entry takes. False, and nothing was done, where there is more to
        it."""
        if not member.puts or len(batch.objects) > 1 or member.guard.arrears.debts:
            return False
        memory: Any = member.fast
        ((key, entry),) = batch.objects.items()
        clock = self.stack.clock
        start = perf_counter()
        now = clock.monotonic()
        wall = clock.time()
        try:
            value = entry.value if self._copy is None else self._copy(entry.value)
            one = memory.ready(key, value, entry, now, wall)
            if one is None or not self.space.epochs.fill_at_once(ticket, key, memory.put, one, stored=False):
                return False
        except Exception:  # noqa: BLE001 - it comes once more in `fill`, which knows what to do with it
            return False
        memory.free()
        member.guard.promoted_one(perf_counter() - start)
        return True

    @owned
    async def fill(
        self,
        owner: Owner,
        runtime: Runtime,
        member: Member,
        batch: Batch,
        ticket: int,
        fences: Fences,
        *,
        promotion: bool | None = True,
    ) -> None:
        """Promote ``batch`` into ``member``, but for keys that were written since ``ticket``, and what was
        purged by age. ``promotion`` is ``None`` if it comes from that member, and is renewed there."""
        epochs = self.space.epochs
        fill = epochs.begin_fill(ticket, batch.objects, runtime, owner)
        try:
            good = _written_after(batch.only(fill.keys), epochs.purged_until(ticket))
            self.suppressed(len(batch) - len(good))
            if good.objects:
                try:
                    with holding(fill):
                        await self._fill_member(runtime, member, good, fences, promotion=promotion)
                        if promotion is None and not member.has_fences:
                            # What a loader stored meanwhile may lie under the older value, which ends later
                            # now. Whoever writes waits for this.
                            undone = epochs.overtaken(ticket, fill)
                            if undone:
                                await member.delete(runtime, undone, counted=False)
                except CodecError as error:
                    member.guard.failed(error, "promote into")
        except GeneratorExit as error:  # its event loop is no more, and nothing can be awaited
            thrown(error)
            epochs.throw_away(fill)
            raise
        finally:
            try:
                if not fill.thrown_away:
                    await self.undo_superseded(runtime, fill, [member])
            finally:
                epochs.end_fill(fill)

    async def _fill_member(
        self, runtime: Runtime, member: Member, batch: Batch, fences: Fences, *, promotion: bool | None
    ) -> tuple[int, Collection[str], Exception | None]:
        """Store what was read or loaded after the ``fences`` were opened, where no process wrote since; how
        many entries the tier took, which keys came too late, and the reason if that is not all."""
        if not member.has_fences:
            count, failure = await member.write(runtime, batch, promotion=promotion)
            return count, (), failure
        ticket = fences.tickets.get(member.depth)
        count, late, failure = await member.fill(runtime, batch, ticket, promotion=promotion)
        self.suppressed(len(late))
        return count, late, failure

    def trouble(self) -> int:
        """How often the tiers below memory have failed, or were left alone: while this has not grown, their
        misses were misses."""
        return sum(
            counters.errors + counters.timeouts + counters.skipped
            for member in self.members
            if not member.nonblocking
            for counters in (member.guard.counters,)
        )

    # -- what writes need too ----------------------------------------------------------------------

    async def undo_superseded(
        self, runtime: Runtime, operation: Operation, members: Sequence[Member]
    ) -> None:
        """A blocking write on this event loop's thread went ahead of ``operation``, which could not be
        waited for, or it was interrupted half way: what it left behind is uncertain, so drop it.
        Cancelling does not keep it from that."""
        if not operation.superseded:
            return
        dropped: set[str] = set()
        interruption: BaseException | None = None
        while keys := operation.superseded - dropped:  # more may come while these are dropped
            left = list(members)
            while left:
                try:
                    with holding(operation):
                        failure = await left[-1].delete(runtime, keys, counted=False)
                    if failure is not None:
                        debts = left[-1].debts(dict.fromkeys(keys), self.stack.clock.time())
                        await self.stack.journal.note(runtime, self.members, debts)
                except BaseException as error:
                    if not is_cancellation(error):
                        raise
                    interruption = error  # raised below; each cancellation comes but once
                else:
                    left.pop()
            dropped |= keys
        self.suppressed(len(dropped))
        if interruption is not None:
            raise interruption

    def given(self, asked: Sequence[str], values: D) -> D:
        """Count those of the keys ``asked`` for, with their duplicates, that the caller gets
        ``values`` of, which are returned."""
        if self.popular is not None and values:
            self.popular.add([key for key in asked if key in values])
        return values

    def count(self, hits: int, misses: int, missed: int) -> None:
        """Count keys looked up in the chain, each as often as it was asked for; ``missed``: how many keys
        the misses are of, which the ledger counts as it does hits."""
        counters = self.stack.counters
        with counters.lock:
            counters.hits += hits
            counters.misses += misses
            self.tab.hits[-1] += missed

    def suppressed(self, count: int) -> None:
        """Count keys whose fill was too late."""
        if count:
            with self.stack.counters.lock:
                self.stack.counters.suppressed_writes += count


def _written_after(batch: Batch, time: float) -> Batch:
    """Those of ``batch`` that were written after ``time`` (Unix seconds), as far as they tell."""
    if time == -inf:
        return batch
    return batch.only([key for key, entry in batch.objects.items() if (entry.created_at or 0.0) > time])
