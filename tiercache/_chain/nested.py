"""A chain as a tier of another chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tiercache._chain.batch import Batch, at_longest
from tiercache._chain.core import Core
from tiercache._chain.leases import leasing
from tiercache._running.bridge import BLOCKING, NATIVE, Runtime, drive
from tiercache.accounts import LEDGER_VERBS
from tiercache.entry import Entry
from tiercache.errors import TierUnavailable
from tiercache.forks import not_pickled
from tiercache.policies import Failure
from tiercache.protocols import Codec, Purge

__all__ = ["ChainTier", "note_outside"]


class ChainTier:
    """The tier protocol over a chain, blocking and async. Entries keep their times; each call is
    counted in the inner chain's own statistics. Write through the outer chain: what is written to the
    inner one directly is seen outside after the outer memory tier's cap. Thread-safe.

    What its tiers miss is noted in its own journal. Where that has no durable tier, and the outer chain has,
    a write or delete that one of its tiers missed fails as a whole: so the outer chain notes it, and settles
    it through this one, also in the next process. Rejected: noting each inner tier outside, whose keys only
    this chain can fold."""

    name = "chain"
    #: Its tiers have a breaker each. One of its own would open when a single one of them takes no deletes,
    #: and then close off those that are well.
    failure = Failure(breaker_failures=None)

    def __init__(self, core: Core, *, owned: bool = True, noted_outside: bool = False) -> None:
        self._core = core
        self._owned = owned
        self._noted_outside = noted_outside
        #: For the chain outside, which shares its epochs with every chain over these tiers.
        self.domains = core.stack.domains
        self.location = core.space
        #: What the outer journal knows it by.
        self.place = ("chain", *core.stack.journal.names, *core.path)
        # Instance attributes, because the chain can what its tiers can: methods would say that it always
        # does, and keep the outer chain from helping itself.
        if any(member.can_scan(BLOCKING) for member in core.members):
            self.scan, self.ascan = self._scan, self._ascan
        if all(member.port(BLOCKING).lengths is not None for member in core.members):
            self.lengths, self.alengths = self._lengths, self._alengths
        #: Whether what it lists is all that it holds, and deleting that would clear it.
        self.lists_everything = all(member.can_clear(BLOCKING) for member in core.members)
        if self.lists_everything:
            self.clear, self.aclear = self._clear, self._aclear
        keepers = [each.tier for each in core.stack.guards if getattr(each.tier, "ledgers", False) is True]
        #: Whether a tier of its own keeps ledgers: that of the chain outside is kept there, too, or it would
        #: be in memory, and end with the process.
        self.ledgers = bool(keepers)
        for verb in LEDGER_VERBS:
            for name in (verb, f"a{verb}"):
                if keepers and hasattr(keepers[-1], name):
                    setattr(self, name, getattr(keepers[-1], name))
        self._leasing = leasing(core.members)
        if self._leasing is not None:
            self.acquire, self.aacquire = self._acquire, self._aacquire
            self.release, self.arelease = self._release, self._arelease

    __reduce__ = not_pickled

    def with_codec(self, codec: Codec[Any]) -> ChainTier:
        """The same with the outer chain's codec, unless the inner one has its own. One that stands in for
        others while bytes are copied has ``core_for_copies`` too: no memory may take these for values."""
        if self._core.codec is not None:
            return self
        core = getattr(codec, "core_for_copies", Core)(self._core.stack, self._core.path, codec)
        return ChainTier(core, owned=self._owned, noted_outside=self._noted_outside)

    def note_outside(self) -> None:
        """The chain outside has a durable tier: let it hear of what only memory would know here."""
        if self._core.stack.journal.depth is None:
            self._noted_outside = True
            note_outside(guard.tier for guard in self._core.stack.guards)

    def _check_told(self, keys: Sequence[str] | None = None) -> None:
        """Raise if a tier has yet to hear of ``keys`` (``None``: of a clear), to have it noted outside."""
        if not self._noted_outside:
            return
        for member in self._core.members:
            arrears = member.guard.arrears
            if arrears.debts and (
                arrears.owes_ranges() if keys is None else arrears.unsettled(member.fold_all(keys))
            ):
                name = member.guard.name
                raise TierUnavailable(f"{name}, a tier of the chain inside, has yet to hear of it", tier=name)

    @property
    def _open(self) -> Core:
        self._core.stack.check_open()
        return self._core

    def mget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """The live entries under ``keys``, promoted inside the chain."""
        return drive(self._mget(BLOCKING, keys))

    async def amget(self, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        """`mget` for async code."""
        return await self._mget(NATIVE, keys)

    async def _mget(self, runtime: Runtime, keys: Sequence[str]) -> dict[str, Entry[Any]]:
        core = self._open
        stale: dict[str, tuple[Entry[Any], str]] = {}
        found = (await core.lookup(runtime, keys, stale=stale)).objects
        core.count(len(found), len(keys) - len(found), len(keys) - len(found))
        core.given(keys, found)
        # What is stale may be wanted by whoever loads through the outer chain.
        return found | {key: entry for key, (entry, _) in stale.items() if key not in found}

    async def as_stored(
        self, runtime: Runtime, keys: Sequence[str], *, raw: bool = False
    ) -> dict[str, Entry[Any]]:
        """As `Core.stored`, each entry from the lowest tier that holds it, with the longest life that it has
        in any of them: for a copy, which needs no codec, and promotes and counts nothing."""
        core = self._open
        found: dict[str, Entry[Any]] = {}
        cut: set[str] = set()
        for member in reversed(core.members):
            asked = [key for key in keys if key not in found or key in cut]
            held = await core.stored(runtime, member, asked, raw=raw)
            found |= {key: at_longest(found.get(key, entry), entry) for key, entry in held.items()}
            if member.cuts_lives:
                cut.update(held)
            cut -= {key for key in cut if found[key].expires_at is None}
        return found

    def _lengths(self, keys: Sequence[str]) -> dict[str, int] | None:
        """What all tiers together hold under each of ``keys``, see `SupportsLengths`; ``None`` if one of them
        cannot tell after all."""
        return drive(self._sum_lengths(BLOCKING, keys))

    async def _alengths(self, keys: Sequence[str]) -> dict[str, int] | None:
        """`_lengths` for async code."""
        return await self._sum_lengths(NATIVE, keys)

    async def _sum_lengths(self, runtime: Runtime, keys: Sequence[str]) -> dict[str, int] | None:
        total: dict[str, int] = {}
        for member in self._open.members:
            told = await member.lengths(runtime, keys)
            if told is None:
                return None
            for key, length in told.items():
                total[key] = total.get(key, 0) + length
        return total

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """Store ``entries`` in every tier of the chain. Raises `WriteError` if none took any."""
        drive(self._mset(BLOCKING, entries))

    async def amset(self, entries: Mapping[str, Entry[Any]]) -> None:
        """`mset` for async code."""
        await self._mset(NATIVE, entries)

    async def _mset(self, runtime: Runtime, entries: Mapping[str, Entry[Any]]) -> None:
        core = self._open
        await core.write(runtime, Batch(dict(entries), core.codec))
        self._check_told(list(entries))

    def mdelete(self, keys: Sequence[str]) -> None:
        """Drop ``keys`` from every tier of the chain. Raises `WriteError` if one did not confirm."""
        drive(self._mdelete(BLOCKING, keys))

    async def amdelete(self, keys: Sequence[str]) -> None:
        """`mdelete` for async code."""
        await self._mdelete(NATIVE, keys)

    async def _mdelete(self, runtime: Runtime, keys: Sequence[str]) -> None:
        await self._open.delete(runtime, keys)
        self._check_told(keys)

    def _scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """A page of keys from the lowest tier that can scan; see `SupportsScan`."""
        return drive(self._open.page(BLOCKING, prefix, skip, cursor, limit))

    async def _ascan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """`_scan` for async code."""
        return await self._open.page(NATIVE, prefix, skip, cursor, limit)

    def _clear(self, prefix: str, *, skip: str = "") -> None:
        """Drop a range of keys from every tier; see `SupportsClear`."""
        drive(self._open.clear(BLOCKING, prefix, skip))
        self._check_told()

    async def _aclear(self, prefix: str, *, skip: str = "") -> None:
        """`clear` for async code."""
        await self._open.clear(NATIVE, prefix, skip)
        self._check_told()

    def check_purge(self, what: Purge) -> None:
        """See `ChecksPurge`."""
        self._open.check_purge(what)

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """Drop entries by age from every tier; see `SupportsPurge`."""
        return drive(self._open.purge(BLOCKING, what, prefix, skip))

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """`purge` for async code."""
        return await self._open.purge(NATIVE, what, prefix, skip)

    def _acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """Take leases in the tier that keeps this chain's; see `SupportsLease`."""
        return drive(self._ask_leases(BLOCKING, "acquire", keys, token, seconds))

    async def _aacquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """`_acquire` for async code."""
        return await self._ask_leases(NATIVE, "acquire", keys, token, seconds)

    def _release(self, keys: Sequence[str], token: str) -> None:
        """Give up leases; see `SupportsLease`."""
        drive(self._ask_leases(BLOCKING, "release", keys, token))

    async def _arelease(self, keys: Sequence[str], token: str) -> None:
        """`_release` for async code."""
        await self._ask_leases(NATIVE, "release", keys, token)

    async def _ask_leases(self, runtime: Runtime, verb: str, keys: Sequence[str], *args: Any) -> list[str]:
        self._core.stack.check_open()
        member = self._leasing
        assert member is not None  # noqa: S101 - the verbs are there only then
        names = list(member.fold_all(keys))
        answer = await member.guard.command(getattr(member.port(runtime), verb), [*names], *args)
        found = set(answer or ())
        return [key for key, name in zip(keys, names, strict=True) if name in found]

    def close(self) -> None:
        """Close the inner chain; if it is only a view, flush it. Idempotent."""
        drive(self._close(BLOCKING))

    async def aclose(self) -> None:
        """`close` for async code."""
        await self._close(NATIVE)

    async def _close(self, runtime: Runtime) -> None:
        stack = self._core.stack
        await (stack.close(runtime) if self._owned else stack.flush(runtime))


def note_outside(tiers: Iterable[Any]) -> None:
    """Let those of ``tiers`` that are chains know that the chain around them has a durable tier."""
    for tier in tiers:
        chain = getattr(tier, "note_outside", None)  # also where it is guarded
        if chain is not None:
            chain()
