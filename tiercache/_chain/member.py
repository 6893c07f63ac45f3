"""A member: one tier of a chain as one view sees it, with the view's namespace and codec bound.

Here, and nowhere else, keys are folded and unfolded, values are encoded and decoded for tiers that
store bytes, and a tier's own ttl cap is applied.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from tiercache._chain.batch import Batch, copied, decoded, encoded
from tiercache._chain.journal import Journal
from tiercache._guard.guard import Guard
from tiercache._guard.sound import sound
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime
from tiercache._running.ports import Port
from tiercache.entry import Entry
from tiercache.errors import ConfigError, TierTimeout
from tiercache.keys import KeyRange, Namespace
from tiercache.protocols import ChecksPurge, Clock, Codec, Debt, Namespaced, Purge, SupportsNamespaces

__all__ = ["Member"]


class Member:
    """One tier for one view. Thread-safe as far as the tier is."""

    def __init__(
        self,
        guard: Guard,
        *,
        namespace: Callable[[], Namespace],
        codec: Codec[Any] | None,
        lowest: bool,
        clock: Clock,
        depth: int,
        journal: Journal,
    ) -> None:
        tier = guard.tier
        self.guard = guard
        self.depth = depth
        #: Whether the tier tells if a key was written since; see `fill`.
        self.has_fences = depth in journal.keepers
        self._journal = journal
        self.codec = codec
        self.stores_bytes = bool(getattr(tier, "stores_bytes", False))
        self.nonblocking = bool(getattr(tier, "nonblocking", False))
        self.fast: Namespaced | None = None
        self._lists_everything = bool(
            getattr(tier, "lists_everything", True)
        )  # else a chain of some that cannot
        self.namespace = namespace
        self._clock = clock
        #: The longest that the tier holds an entry, in seconds, unless it sees to that by itself.
        self.cap: float | None = None
        self._copy: Callable[[Any], Any] | None = None
        self._keeps_objects = False
        bound: Any = tier
        if hasattr(tier, "open_namespace") and isinstance(tier, SupportsNamespaces):
            # It keeps namespaces apart and applies its cap by itself: user keys all the way.
            bound = self.fast = tier.open_namespace(namespace().path, codec=codec, lowest=lowest)
            self.namespace = _identity
        else:
            if codec is not None and hasattr(tier, "with_codec"):
                bound = tier.with_codec(codec)  # a chain inside this one encodes for its own tiers
            cap = getattr(tier, "ttl", None)
            self.cap = cap if isinstance(cap, int | float) else None
            if not self.stores_bytes and bound is tier:
                # It keeps the very objects that it is given, of whatever codec, and hands them out.
                self._keeps_objects = True
                self._copy = getattr(codec, "copy", None)
        #: Whether it is memory that takes single entries at once: see `SupportsPut`.
        self.puts = (
            getattr(self.fast, "puts", False) is True
            and getattr(self.fast, "clock", None) is clock
            and guard.policy.breaker_failures is None
        )
        #: Of a chain inside: its entries as its own tiers keep them, which `stored` is after.
        self._as_stored: Callable[..., Any] | None = getattr(bound, "as_stored", None)
        #: Whether it may hold entries for less than all of their life.
        self.cuts_lives = self.cap is not None or self.fast is not None or self._as_stored is not None
        #: Whether entries that slide are renewed in it by being read there.
        self.renews = self.fast is not None or self._as_stored is not None
        self._blocking = BLOCKING.port(bound, guard.lane)
        self._native = NATIVE.port(bound, guard.lane)

    def port(self, runtime: Runtime) -> Port:
        """The tier's verbs for ``runtime``."""
        return self._blocking if runtime.blocking else self._native

    def fold_all(self, keys: Sequence[str]) -> Sequence[str]:
        """``keys`` as the tier knows them just now."""
        return self.namespace().fold_all(keys)

    # -- the four verbs ----------------------------------------------------------------------------

    async def read(
        self,
        runtime: Runtime,
        keys: Sequence[str],
        *,
        counted: bool = True,
        deleted: Mapping[str, float] | None = None,
    ) -> Batch:
        """The live entries under ``keys``, without those that are older than when their keys, as the tier
        knows them, were ``deleted``."""
        port = self._blocking if runtime.blocking else self._native
        namespace = self.namespace()
        folded = namespace.fold_all(keys)
        if self.guard.arrears.debts or deleted:
            found = await self._read_settled(port, folded, deleted or {}, counted=counted)
        else:
            found = await self.guard.read(port, folded, counted=counted)
        if not found:
            return Batch({}, None)
        if folded is not keys:
            found = {key: found[name] for key, name in zip(keys, folded, strict=True) if name in found}
        if self.codec is None:
            return Batch(self._plain(found, counted=counted), None)
        if not self.stores_bytes:
            if self._keeps_objects:
                found = self._own(found, counted=counted)
            return Batch(found, self.codec if found else None)
        objects, corrupt, foreign = decoded(found, self.codec)
        if counted and foreign:
            self.guard.foreign(foreign, self.codec.name)
        if corrupt:
            if counted:
                self.guard.no_hits(len(corrupt))
                self.guard.corrupt(len(corrupt))
            await self.guard.delete(port, namespace.fold_all(corrupt), counted=False)
        if len(objects) < len(found):
            found = {key: found[key] for key in objects}
        return Batch(objects, self.codec, found)

    async def stored(
        self, runtime: Runtime, keys: Sequence[str], deleted: Mapping[str, float], *, raw: bool = False
    ) -> dict[str, Entry[Any]]:
        """The live entries under ``keys`` as the tier keeps them, whichever codec wrote them, for a copy or a
        look: counted nowhere. Left out is what the tier should have dropped, by what it is owed or by when
        its key was ``deleted``. Raises what the tier raises: who copies wants to know what is missing.

        A tier that keeps objects gives those of this view's codec, encoded anew; ``raw``: just as it has
        them, for who looks at their times alone.
        """
        namespace = self.namespace()
        arrears = self.guard.arrears
        owed = {debt.key for debt in arrears.unsettled(namespace.fold_all(keys))}
        names = {
            key: name for key, name in zip(keys, namespace.fold_all(keys), strict=True) if name not in owed
        }
        if not names:
            return {}
        asked = list(names.values())
        ranges = arrears.ranges(asked)
        port = self.port(runtime)
        verb: Callable[..., Any] = port.peek or port.mget
        if self._as_stored is not None:
            verb = partial(self._as_stored, runtime, raw=raw)
        answer = await self.guard.command(verb, [*asked], reads=True)
        found, _, _ = sound(
            answer, asked, self._clock.time(), tier=self.guard.name, ours=self.fast is not None
        )
        old = set(arrears.too_old(found, ranges))
        old.update(name for name, when in deleted.items() if _is_older(found.get(name), when))
        entries = {key: found[name] for key, name in names.items() if name in found and name not in old}
        if raw or self.stores_bytes or self._as_stored is not None:
            return entries
        codec = self.codec
        if codec is None:
            return {key: entry for key, entry in entries.items() if _is_plain(entry, self.stores_bytes)}
        ours = (codec.name, "bytes")  # as in `_own`
        return {key: encoded(entry, codec) for key, entry in entries.items() if entry.codec in ours}

    async def lengths(self, runtime: Runtime, keys: Sequence[str]) -> dict[str, int] | None:
        """About how many bytes `stored` would give of each of ``keys``, and none of those left out; ``None``
        if the tier cannot tell. Raises what the tier raises."""
        verb = self.port(runtime).lengths
        if verb is None:
            return None
        names = dict(zip(self.namespace().fold_all(keys), keys, strict=True))
        told = await self.guard.command(verb, [*names], reads=True)
        if not (isinstance(told, Mapping) and all(isinstance(length, int) for length in told.values())):
            return None  # it has that name for something else
        return {key: told[name] for name, key in names.items() if name in told}

    async def _read_settled(
        self, port: Port, folded: Sequence[str], deleted: Mapping[str, float], *, counted: bool
    ) -> dict[str, Entry[Any]]:
        """Read after the tier has heard what it is owed about these keys; those that it cannot be told of are
        misses, and so is what is older than that."""
        guard = self.guard
        asked = folded
        owed = guard.arrears.unsettled(folded)
        if owed:
            names = [debt.key for debt in owed]
            failure = await guard.delete(port, names, counted=False)
            if failure is None:
                self._journal.settled(self.depth, owed)
            elif isinstance(failure, TierTimeout | TimeoutError) and not guard.policy.writes_apart:
                asked = ()  # it has had its deadline, and a read would take another
                if counted:
                    guard.unasked(len(folded))
            else:
                refused = set(names)
                asked = [name for name in folded if name not in refused]
                if counted:
                    guard.unasked(len(folded) - len(asked))
        ranges = guard.arrears.ranges(asked)
        if any(not debt.settled for debt in ranges):
            self._journal.pursue()
        found = await guard.read(port, asked, counted=counted) if asked else {}
        old = set(guard.arrears.too_old(found, ranges, drops=self._drops(port)))
        old.update(name for name, when in deleted.items() if _is_older(found.get(name), when))
        if old:
            if counted:
                guard.no_hits(len(old))
            found = {name: entry for name, entry in found.items() if name not in old}
            await guard.delete(port, list(old), counted=False)
        return found

    def _plain(self, found: dict[str, Entry[Any]], *, counted: bool) -> dict[str, Entry[Any]]:
        """What a cache without a codec made."""
        named = self.stores_bytes
        others = {  # what `_is_plain` says of each, without a call for it
            key
            for key, entry in found.items()
            if not isinstance(entry.value, bytes) or (named and entry.codec != "bytes")
        }
        if not others:
            return found
        if counted:
            self.guard.foreign(len(others), "bytes")
        return {key: entry for key, entry in found.items() if key not in others}

    def _own(self, found: dict[str, Entry[Any]], *, counted: bool) -> dict[str, Entry[Any]]:
        """What this view's codec made, with values of their own. "bytes" is also what an entry says whose
        tier does not keep the name."""
        assert self.codec is not None  # noqa: S101 - asked by the caller
        name = self.codec.name
        ours = {key: entry for key, entry in found.items() if entry.codec in (name, "bytes")}
        if counted and len(ours) < len(found):
            self.guard.foreign(len(found) - len(ours), name)
        return ours if self._copy is None else copied(ours, self._copy)

    async def write(
        self, runtime: Runtime, batch: Batch, *, promotion: bool | None = False, debts: Sequence[Debt] = ()
    ) -> tuple[int, Exception | None]:
        """Store ``batch``; how many entries the tier took, and the reason if that is not all. ``debts`` are
        noted with it, where the tier keeps the journal."""
        folded = self._folded(batch)
        if not folded:
            return 0, None
        port = self.port(runtime)
        taken, _, failure = await self.guard.write(port, folded, promotion=promotion, debts=debts)
        if failure is None and self.guard.arrears.debts:
            self._journal.heard(self.depth, {key: entry.created_at or 0.0 for key, entry in folded.items()})
        return taken, failure

    async def fill(
        self, runtime: Runtime, batch: Batch, ticket: Any, *, promotion: bool | None
    ) -> tuple[int, Collection[str], Exception | None]:
        """Store ``batch`` but for what any process wrote since the glance that gave ``ticket`` (``None``: it
        did not answer, and nothing is stored); how many entries the tier took, which came too late, and the
        reason if that is not all."""
        folded = self._folded(batch)
        if not folded or ticket is None:
            return 0, (), None
        count, late, failure = await self.guard.write(
            self.port(runtime), folded, promotion=promotion, ticket=ticket
        )
        if late:
            refused = set(late)
            late = [key for key, name in zip(batch.objects, folded, strict=True) if name in refused]
        return count, late, failure

    def _folded(self, batch: Batch) -> dict[str, Entry[Any]]:
        """The entries of ``batch`` as the tier takes them."""
        entries = batch.payloads if self.stores_bytes else batch.objects
        if not entries:
            return {}
        if self.cap is not None:
            entries = self._capped(entries, self.cap)
        if self._copy is not None:
            entries = copied(entries, self._copy)
        return dict(zip(self.namespace().fold_all(list(entries)), entries.values(), strict=True))

    async def delete(
        self,
        runtime: Runtime,
        keys: Collection[str],
        *,
        counted: bool = True,
        everywhere: bool = False,
        debts: Sequence[Debt] = (),
    ) -> Exception | None:
        """Drop ``keys``; the reason if the tier did not confirm it. ``debts`` are noted with it, where the
        tier keeps the journal. ``everywhere``: no other tier may serve what it has of them either."""
        now = self._clock.time()
        folded = self.namespace().fold_all(list(keys))
        options: dict[str, Any] = {"debts": debts} if debts else {}
        if self.has_fences and everywhere:
            options["everywhere"] = True
        failure = await self.guard.delete(self.port(runtime), folded, counted=counted, **options)
        if failure is None and self.guard.arrears.debts:
            self._journal.heard(self.depth, dict.fromkeys(folded, now))
        return failure

    def debts(self, keys: Mapping[str, float | None], now: float) -> list[Debt]:
        """What the tier is owed after it failed to take ``keys``, each with the time when its new value was
        written (``None``: it was deleted, ``now``)."""
        name = self._journal.names[self.depth]
        return [
            Debt(name, folded, now if written is None else written)
            for folded, written in zip(self.fold_all(list(keys)), keys.values(), strict=True)
        ]

    def wide_debts(self, prefix: str, skip: str, now: float, *, settled: bool = False) -> list[Debt]:
        """What it is owed after it failed to clear a range; ``settled`` if it never can."""
        name = self._journal.names[self.depth]
        ranges = self.namespace().ranges(prefix, skip)
        return [Debt(name, start, now, without, settled) for start, without in ranges]

    # -- what only some tiers can ------------------------------------------------------------------

    def can_scan(self, runtime: Runtime) -> bool:
        """Whether the tier can list its keys."""
        return self.port(runtime).scan is not None

    def can_clear(self, runtime: Runtime) -> bool:
        """Whether the tier can be made to drop a range of keys for certain."""
        return self._drops(self.port(runtime))

    def _drops(self, port: Port) -> bool:
        return port.clear is not None or (port.scan is not None and self._lists_everything)

    async def page(
        self, runtime: Runtime, prefix: str, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """One page of the namespace's live keys in the range, and the next page's cursor or ``None``; as
        in `SupportsScan`. Raises what the tier raises."""
        scan = self.port(runtime).scan
        assert scan is not None  # noqa: S101 - callers ask can_scan first
        namespace = self.namespace()
        ranges = namespace.ranges(prefix, skip)
        if not ranges:
            return [], None
        number, inner = cursor or (0, None)
        start, without = ranges[number]
        folded, inner = await self.guard.command(
            scan, start, skip=without, cursor=inner, limit=limit, reads=True
        )
        if inner is None:
            number += 1
        keys = [namespace.unfold(name) for name in folded]
        if not _left_out(without, skip):
            keys = [key for key in keys if not key.startswith(skip)]
        return keys, None if number == len(ranges) else (number, inner)

    async def clear(self, runtime: Runtime, prefix: str = "", skip: str = "") -> bool:
        """Drop the range; false if the tier can neither clear nor scan. Raises what the tier raises."""
        port = self.port(runtime)
        namespace = self.namespace()
        options = {"everywhere": True} if self.has_fences else {}
        for start, without in namespace.ranges(prefix, skip):
            if port.clear is not None and _left_out(without, skip):
                await self.guard.command(port.clear, start, skip=without, **options)
                continue
            if port.scan is None or not self._lists_everything:
                return False
            cursor: Any = None
            while True:
                keys, cursor = await self.guard.command(
                    port.scan, start, skip=without, cursor=cursor, reads=True
                )
                if not _left_out(without, skip):
                    keys = [key for key in keys if not namespace.unfold(key).startswith(skip)]
                if keys:
                    await self.guard.command(port.mdelete, keys, **options)
                if cursor is None:
                    break
        return True

    def check_purge(self, what: Purge) -> None:
        """Raise `ConfigError` if the tier cannot drop what ``what`` names."""
        tier, name = self.guard.tier, self.guard.name
        if not (what.older_than is None and what.idle is None) and self._blocking.purge is None:
            raise ConfigError(f"purge: the tier {name!r} cannot drop entries by age, and has no purge()")
        if isinstance(tier, ChecksPurge):
            tier.check_purge(what)

    async def purge(self, runtime: Runtime, what: Purge, prefix: str = "", skip: str = "") -> int:
        """Drop what ``what`` names in the range; how many entries. Raises what the tier raises."""
        purge = self.port(runtime).purge
        dropped = 0
        if purge is not None:
            for start, without in self.namespace().ranges(prefix, skip):
                if _left_out(without, skip):  # else too little is dropped rather than too much
                    dropped += await self.guard.command(purge, start, skip=without, what=what)
        return dropped

    def _capped(self, entries: dict[str, Entry[Any]], cap: float) -> dict[str, Entry[Any]]:
        limit = self._clock.time() + cap
        return {
            key: entry
            if entry.expires_at is not None and entry.expires_at <= limit
            else replace(entry, expires_at=limit)
            for key, entry in entries.items()
        }


def _is_older(entry: Entry[Any] | None, when: float) -> bool:
    """Whether there is ``entry``, and says that it was written before ``when``."""
    return entry is not None and entry.created_at is not None and entry.created_at < when


def _left_out(without: str, skip: str) -> bool:
    """Whether a folded range leaves out what ``skip`` names. In the default namespace it may not: a tier
    leaves out one prefix, and that may be the other namespaces'."""
    return without.endswith(skip)


def _is_plain(entry: Entry[Any], encoded: bool) -> bool:
    """Whether a cache without a codec wrote the entry; those of others are left alone."""
    return isinstance(entry.value, bytes) and (not encoded or entry.codec == "bytes")


class _Unfolded(Namespace):
    """The identity: for a tier that keeps namespaces apart by itself."""

    __slots__ = ()

    def fold_all(self, keys: Sequence[str]) -> Sequence[str]:
        return keys

    def unfold(self, folded: str) -> str:
        return folded

    def ranges(self, prefix: str = "", skip: str = "") -> list[KeyRange]:
        return [(prefix, skip)]


_UNFOLDED = _Unfolded(("",))


def _identity() -> Namespace:
    return _UNFOLDED
