"""The core: what every public method of a cache does but loading, written once as coroutines.

Reading is in `reading`; here are writes, deletes and clears, which tell the journal what a tier missed, and
listing and purging.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tiercache._chain.batch import Batch, payload_of
from tiercache._chain.journal import Fences, Missed
from tiercache._chain.member import Member
from tiercache._chain.reading import Reader
from tiercache._consistency.operations import Operation, holding
from tiercache._loading.staleness import NEVER_STALE, Staleness
from tiercache._log import describe, logger
from tiercache._running.bridge import Runtime
from tiercache._running.owners import Owner, owned, thrown
from tiercache.entry import Entry, make_entry
from tiercache.errors import ConfigError, EntryRejected, TierError, TierUnavailable, WriteError
from tiercache.protocols import Debt, Purge

__all__ = ["Core", "WriteResult", "check_bytes"]

_BYTES = frozenset({bytes})
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WriteResult:
    """Which tiers took a write: all of it (``accepted``), or not all of it (``failed``), by name, from
    the top down."""

    accepted: tuple[str, ...]
    failed: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether every tier took all of it."""
        return not self.failed


class Core(Reader):
    """One view of a stack. Thread-safe."""

    async def lookup_in(
        self,
        runtime: Runtime,
        member: Member,
        keys: Sequence[str],
        wanted: Callable[[str, Entry[Any]], bool],
    ) -> Batch:
        """What ``member`` has under ``keys`` that is fresh and ``wanted``, promoted into the tiers above it,
        also where these have something else; counted nowhere."""
        epochs, fences = self.space.epochs, Fences()
        ticket = epochs.open_ticket()
        try:
            found = await self._read(runtime, member, epochs.certain(keys), fences, None, counted=False)
            found = found.only([key for key, entry in found.objects.items() if wanted(key, entry)])
            if found.objects and member.depth:
                above = [Batch({}, None)] * (member.depth - 1)
                await self._promote(runtime, [*above, found], ticket, fences)
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            epochs.close_ticket(ticket)
        return found

    # -- writing -----------------------------------------------------------------------------------

    def batch(
        self, values: Mapping[str, Any], ttl: float | None, staleness: Staleness = NEVER_STALE
    ) -> Batch:
        """Entries for ``values`` that live for ``ttl``, encoded. Raises `TypeError` and `CodecError` before
        anything is touched.

        They are encoded also where no tier stores bytes: a value that memory alone would take is refused
        in a test with memory alone, and not first in production; and memory can weigh it.
        """
        now = self.stack.clock.time()
        expires_at, fresh_until, sliding = staleness.times(now, ttl)
        varies = staleness.varies and ttl is not None
        codec = self.codec
        if codec is None:
            if not _BYTES.issuperset(map(type, values.values())):
                for value in values.values():
                    check_bytes(value)
            entries: dict[str, Entry[Any]] = {}
            for key, value in values.items():
                if varies:
                    expires_at, fresh_until, sliding = staleness.times(now, ttl)
                entries[key] = make_entry(value, expires_at, now, fresh_until, "bytes", len(value), sliding)
            return Batch(entries, None)
        name = codec.name
        objects: dict[str, Entry[Any]] = {}
        payloads: dict[str, Entry[bytes]] = {}
        for key, value in values.items():
            if varies:
                expires_at, fresh_until, sliding = staleness.times(now, ttl)
            payload = payload_of(value, codec)
            size = len(payload)
            payloads[key] = make_entry(payload, expires_at, now, fresh_until, name, size, sliding)
            objects[key] = make_entry(value, expires_at, now, fresh_until, name, size, sliding)
        return Batch(objects, codec, payloads)

    @owned
    async def write(
        self, owner: Owner, runtime: Runtime, batch: Batch, above: Collection[str] = _NONE
    ) -> WriteResult:
        """Store ``batch`` in every tier, lowest first; but the keys ``above`` in memory alone, and the others
        drop these. Raises `WriteError` if none took any of it."""
        if not batch.objects:
            return WriteResult(tuple(guard.name for guard in self.stack.guards), ())
        above = self.withheld(above)
        epochs = self.space.epochs
        write = await epochs.begin_write(batch.objects.keys(), runtime, owner)
        try:
            with holding(write):
                taken = await self.write_all(runtime, batch, write, None, above)
        except GeneratorExit as error:  # its event loop is no more, and nothing can be awaited
            thrown(error)
            epochs.throw_away(write)
            raise
        except BaseException:  # cancelled or interrupted, since tiers' own failures are counted, not raised
            epochs.give_up(write)
            raise
        finally:
            try:
                if not write.thrown_away:
                    await self.undo_superseded(runtime, write, self.members)
            finally:
                epochs.end_write(write)
                self.space.detach(batch.objects.keys())
        if not any(count for _, count, _ in taken):
            reasons = [(name, failure) for name, _, failure in taken if failure is not None]
            raise WriteError(
                f"no tier accepted the write of {len(batch)} entries: "
                + "; ".join(f"{name}: {describe(failure)}" for name, failure in reasons)
            ) from (reasons[-1][1] if reasons else None)
        accepted = tuple(name for name, count, _ in taken if count == len(batch))
        failed = tuple(name for name, count, _ in taken if count < len(batch))
        return WriteResult(accepted, failed)

    async def write_all(
        self,
        runtime: Runtime,
        batch: Batch,
        operation: Operation,
        fences: Fences | None = None,
        above: Collection[str] = _NONE,
        old: Collection[str] = _NONE,
    ) -> list[tuple[str, int, Exception | None]]:
        """Write ``batch`` into every tier, lowest first; for each, from the top down, its name, how many
        entries it took, and the reason if that is not all.

        The entries take the place of what there was: a tier that fails is owed that, and the journal notes
        it. Tiers below memory drop the keys ``above`` instead, or an older value would come back when memory
        has none any more. With ``fences``, which were opened before the values were made, see `_fill_all`;
        then only the ``old`` ones of these are there to be dropped.
        """
        if fences is not None:
            return await self._fill_all(runtime, batch, operation, fences, above, old)
        taken = []
        missed = Missed(self.stack.journal, runtime, self.members)
        for member in reversed(self.members):
            left = self._left(batch, operation.superseded)
            dropped, undropped = 0, None
            if above and not member.nonblocking:
                drop = [key for key in left.objects if key in above]
                undropped = await self._drop(runtime, member, drop, missed)
                dropped = 0 if undropped else len(drop)
                written_batch = self._left(left, above)
            else:
                written_batch = left
            count, failure = await self._write_member(
                runtime, member, written_batch, missed, along=undropped is None
            )
            done = count + dropped + len(batch) - len(left)
            taken.append((member.guard.name, done, failure or undropped))
        await missed.end()
        return taken[::-1]

    async def _write_member(
        self, runtime: Runtime, member: Member, batch: Batch, missed: Missed, *, along: bool
    ) -> tuple[int, Exception | None]:
        """Write ``batch`` into ``member``: how many entries it took, and the reason if that is not all.
        Unless ``along`` it is not given what others missed, having failed with that just now."""
        if not batch.objects:
            return 0, None
        debts = missed.along(member) if along else ()
        count, failure = await member.write(runtime, batch, debts=debts)
        if failure is None:
            if along:
                await missed.confirmed(member)
        elif not isinstance(failure, EntryRejected):
            written = {key: entry.created_at for key, entry in batch.objects.items()}
            missed.missed(member, member.debts(written, self.stack.clock.time()), failure)
        return count, failure

    async def _drop(
        self, runtime: Runtime, member: Member, keys: Collection[str], missed: Missed
    ) -> Exception | None:
        """Drop ``keys`` from ``member``, which is owed that if it fails; the reason if it did."""
        if not keys:
            return None
        now = self.stack.clock.time()
        debts = missed.along(member)
        failure = await member.delete(runtime, keys, counted=False, everywhere=True, debts=debts)
        if failure is None:
            await missed.confirmed(member)
        else:
            missed.missed(member, member.debts(dict.fromkeys(keys), now), failure)
        return failure

    def withheld(self, above: Collection[str]) -> Collection[str]:
        """Those keys of which values are to be kept in memory alone: ``above``, counted, if there is anything
        below memory."""
        if not above or all(member.nonblocking for member in self.members):
            return _NONE
        with self.stack.counters.lock:
            self.stack.counters.not_admitted += len(above)
        return above

    async def _fill_all(
        self,
        runtime: Runtime,
        batch: Batch,
        operation: Operation,
        fences: Fences,
        above: Collection[str],
        old: Collection[str],
    ) -> list[tuple[str, int, Exception | None]]:
        """Write ``batch`` into every tier, but for keys that any process wrote since the ``fences`` were
        opened. A tier that fails is owed nothing, for nothing was replaced; but for the ``old`` ones of the
        keys ``above``, which tiers below memory do not get and have to drop.

        The tiers that can tell come first: the others, which may be shared too, get what those found good.
        """
        taken = {}
        late: set[str] = set()
        for member in sorted(self.members, key=lambda member: (not member.has_fences, -member.depth)):
            left = self._left(batch, operation.superseded | late)
            undropped = None
            if above and not member.nonblocking:
                missed = Missed(self.stack.journal, runtime, self.members)
                drop = [key for key in left.objects if key in old]
                undropped = await self._drop(runtime, member, drop, missed)
                await missed.end()
                left = self._left(left, above)
            count, refused, failure = await self._fill_member(runtime, member, left, fences, promotion=False)
            late.update(refused)
            taken[member.depth] = (member.guard.name, count + len(batch) - len(left), failure or undropped)
        return [taken[depth] for depth in sorted(taken)]

    @staticmethod
    def _left(batch: Batch, without: Collection[str]) -> Batch:
        return batch.only([key for key in batch.objects if key not in without]) if without else batch

    @owned
    async def delete(self, owner: Owner, runtime: Runtime, keys: Sequence[str]) -> WriteResult:
        """Drop ``keys`` from every tier, lowest first. Raises `WriteError`, after every tier was asked,
        if one of them did not confirm it and the journal could not note that either."""
        if not keys:
            return WriteResult(tuple(guard.name for guard in self.stack.guards), ())
        epochs = self.space.epochs
        write = await epochs.begin_write(keys, runtime, owner)
        try:
            with holding(write):
                failures, noted = await self._delete_all(runtime, keys)
        except GeneratorExit as error:  # as in `write`
            thrown(error)
            epochs.throw_away(write)
            raise
        except BaseException:  # as in `write`; what is half deleted is better gone
            epochs.give_up(write)
            await self.undo_superseded(runtime, write, self.members)
            raise
        finally:
            epochs.end_write(write)
            self.space.detach(keys)
        return self._confirmed(failures, f"the delete of {len(keys)} keys", noted=noted)

    async def _delete_all(
        self, runtime: Runtime, keys: Collection[str]
    ) -> tuple[list[tuple[str, Exception | None]], bool]:
        """Drop ``keys`` from every tier; for each, from the lowest up, its name and why it did not confirm.
        And whether what they missed is noted for good."""
        failures: list[tuple[str, Exception | None]] = []
        missed = Missed(self.stack.journal, runtime, self.members)
        now = self.stack.clock.time()
        for member in reversed(self.members):
            failure = await member.delete(runtime, keys, everywhere=True, debts=missed.along(member))
            if failure is None:
                await missed.confirmed(member)
            else:
                missed.missed(member, member.debts(dict.fromkeys(keys), now), failure)
            failures.append((member.guard.name, failure))
        return failures, await missed.end()

    @owned
    async def clear(self, owner: Owner, runtime: Runtime, prefix: str = "", skip: str = "") -> None:
        """Drop this namespace (or a range of it) from every tier, lowest first. Raises `WriteError` like
        `delete`."""
        epochs, space, journal = self.space.epochs, self.space, self.stack.journal
        clear = await epochs.begin_clear(runtime, owner)
        failures: list[tuple[str, Exception | None]] = []
        debts: list[Debt] = []
        now = self.stack.clock.time()
        try:
            for depth in range(len(self.members) - 1, -1, -1):
                member = self.members[depth]
                failure: Exception | None = None
                try:
                    with holding(clear):
                        cleared = await member.clear(runtime, prefix, skip)
                    if cleared and member.guard.arrears.debts:
                        fences = member.wide_debts(prefix, skip, now, settled=True)
                        journal.cleared(member.depth, fences)
                    if not cleared:
                        # For the next process; in this one it is out of reach.
                        debts += member.wide_debts(prefix, skip, now, settled=True)
                        # Nobody can tell what is in there: leave it all behind, out of reach. The
                        # number only has to differ from those of other lives of this namespace.
                        space.leave_behind(depth, member.guard.tier, int(self.stack.clock.time() * 1e6))
                except Exception as error:  # noqa: BLE001 - the other tiers are still to be cleared
                    member.guard.failed(error, "clear")
                    failure = error
                    debts += member.wide_debts(prefix, skip, now)
                failures.append((member.guard.name, failure))
            noted = await journal.note(runtime, self.members, debts)
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            epochs.end_clear(clear)
            space.detach()
        self._confirmed(failures, "the clear", noted=noted)

    @staticmethod
    def _confirmed(failures: list[tuple[str, Exception | None]], what: str, *, noted: bool) -> WriteResult:
        failed = tuple(name for name, failure in reversed(failures) if failure is not None)
        if failed and not noted:
            first = next(failure for _, failure in failures if failure is not None)
            raise WriteError(
                f"{what} was not confirmed by {', '.join(failed)} ({describe(first)}), which may still serve "
                f"the old values once this process has ended; repeat it when the tier is well"
            ) from first
        return WriteResult(tuple(name for name, failure in reversed(failures) if failure is None), failed)

    # -- listing and purging ----------------------------------------------------------------

    async def page(
        self, runtime: Runtime, prefix: str, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """One page of live keys from the lowest tier that can scan, and the next page's cursor or
        ``None``. Raises a `TierError`."""
        for member in reversed(self.members):
            if member.can_scan(runtime):
                name = member.guard.name
                try:
                    return await member.page(runtime, prefix, skip, cursor, limit)
                except TierError:
                    raise
                except Exception as error:
                    raise TierUnavailable(f"{name} cannot list its keys", tier=name) from error
        raise TierUnavailable(
            "no tier of this chain can list its keys; MemoryTier, DiskTier, SQLTier and RedisTier can"
        )

    @owned
    async def purge(
        self, owner: Owner, runtime: Runtime, what: Purge, prefix: str = "", skip: str = ""
    ) -> int:
        """The most entries that any one tier dropped: upper tiers hold copies of what lower ones hold.
        Raises a `TierError`, after every tier was asked, if one of them failed; and `ConfigError` as
        `check_purge` does, before any is asked."""
        untold = self.check_purge(what)
        if untold:
            names = ", ".join(member.guard.name for member in untold)
            logger().warning("purge by idle: %s cannot tell when an entry was last used", names)
        epochs = self.space.epochs
        purge = None
        if what.older_than is not None:
            until = self.stack.clock.time() - what.older_than
            purge = await epochs.begin_purge(until, runtime, owner)
        dropped = [0]
        failed: TierError | None = None
        try:
            for member in reversed(self.members):  # what is read below from then on does not rise again
                told = replace(what, idle=None) if member in untold else what
                try:
                    dropped.append(await member.purge(runtime, told, prefix, skip))
                except Exception as error:  # noqa: BLE001 - the other tiers are still to be purged
                    member.guard.failed(error, "purge")
                    name = member.guard.name
                    failed = failed or TierUnavailable(f"{name} was not purged: {describe(error)}", tier=name)
                    failed.__cause__ = failed.__cause__ or error
        except GeneratorExit as error:
            thrown(error)
            raise
        finally:
            if purge is not None:
                epochs.end_purge(purge)
        if failed is not None:
            raise failed
        return max(dropped)

    def check_purge(self, what: Purge) -> list[Member]:
        """The tiers that do not know when their entries were last used, if ``what`` asks for that: to make
        room, what the others drop is worth it. Raises `ConfigError` if none knows; or if one does not know
        the age of its entries: who was told that they are gone would find them there."""
        untold: list[Member] = []
        refusals: list[ConfigError] = []
        for member in self.members:
            member.check_purge(replace(what, idle=None))
            try:
                member.check_purge(replace(what, older_than=None))
            except ConfigError as error:
                untold.append(member)
                refusals.append(error)
        if len(untold) == len(self.members):
            raise refusals[0]
        return untold


def check_bytes(value: Any) -> None:
    """Raise `TypeError` for a value that a cache without a codec does not take."""
    if not isinstance(value, bytes):
        raise TypeError(
            f"a {type(value).__name__} was given to a cache of bytes; give it codec=, for instance "
            f"JSONCodec() (a view does not inherit the codec of its cache)"
        )
