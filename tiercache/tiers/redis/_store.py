"""The byte stores of a Redis tier: each call within its deadline, for blocking and for async callers.

What is sent is written once, as coroutines: see `_entries`, `_lease`, `_ledger` and `_about`. Only single-key
and read commands that may be repeated are sent, never a transaction, so that a call can be tried again on a
new connection when the pooled one turns out to be dead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import redis

from tiercache.accounts import Account, Deposit
from tiercache.errors import CacheClosed, ConfigError, TierFull, TierTimeout, TierUnavailable
from tiercache.protocols import About, Blob, Clock, Purge
from tiercache.tiers.redis import _about, _lease, _ledger
from tiercache.tiers.redis._clients import BlockingClients, NativeClients
from tiercache.tiers.redis._commands import Moved, Wire
from tiercache.tiers.redis._entries import Entries
from tiercache.tiers.redis._refusals import refusal
from tiercache.tiers.redis._wires import drive

__all__ = ["BlockingStore", "NativeStore", "RedisStore", "Store"]

P = ParamSpec("P")
T = TypeVar("T")

Clients: TypeAlias = BlockingClients | NativeClients

#: How many keys `clear` asks for, and drops, at a time.
_CLEAR_PAGE = 1000

#: A server without TLS waits for the rest of what it takes for a command.
_TLS = "; it never answered this tier: does its port speak TLS?"


class Store:
    """What all three stores share: how a call is made, and the operations that take several."""

    def __init__(
        self,
        described: str,
        blocking: BlockingClients | None,
        native: NativeClients | None,
        *,
        prefix: str,
        deadline: float,
        clock: Clock,
    ) -> None:
        self._described = described
        self._blocking: Any = blocking
        self._native: Any = native
        self._prefix_text = prefix
        self._prefix = prefix.encode("utf-8", "surrogatepass")
        self._deadline = deadline
        self._clock = clock
        self._entries = Entries(self._prefix, clock)
        self._closed = False
        self._answered = False

    def __repr__(self) -> str:
        return f"{self._described}, prefix={self._prefix_text!r}"

    async def _call(
        self,
        clients: Clients,
        work: Callable[Concatenate[Wire, float, bool, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """``work`` within the deadline; twice, where a connection or the topology was stale."""
        if self._closed:
            raise CacheClosed("this RedisTier is closed")
        until = monotonic() + self._deadline
        wire: Wire | None = None
        try:
            async with clients.timer(self._deadline):
                wire = await clients.wire(until)
                known = await wire.enter(until)
                try:
                    try:
                        result = await work(wire, until, False, *args, **kwargs)
                        self._answered = True
                        return result
                    except (redis.ConnectionError, redis.exceptions.ClusterDownError, Moved) as problem:
                        if self._closed or isinstance(problem, redis.AuthenticationError):
                            raise
                        if monotonic() >= until:  # it was cut off by its end
                            raise redis.TimeoutError from None
                        await wire.refresh(known)
                        return await work(wire, until, True, *args, **kwargs)
                finally:
                    wire.leave()
        except (redis.TimeoutError, TimeoutError):
            if wire is not None:
                wire.doubt()
            hint = "" if self._answered or not self._described.startswith("rediss") else _TLS
            raise TierTimeout(f"no answer from {self._described} within {self._deadline:g} s{hint}") from None
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            if self._closed:  # meanwhile, and with it the connection
                raise CacheClosed("this RedisTier is closed") from None
            kind = TierFull if isinstance(error, redis.exceptions.OutOfMemoryError) else TierUnavailable
            raise kind(f"{self._described}: {refusal(error, self._prefix_text)}") from None

    async def _posted(self, clients: Clients, since: str) -> list[tuple[Account, dict[str, int]]]:
        async def ask(days: Sequence[str]) -> list[Any]:
            return await self._call(clients, _ledger.hashes, self._prefix, days)

        return await _ledger.posted(ask, since, self._clock)

    async def _clear(self, clients: Clients, prefix: str, skip: str) -> None:
        cursor = None
        while True:
            keys, cursor = await self._call(clients, self._entries.scan, prefix, skip, cursor, _CLEAR_PAGE)
            if keys:
                await self._call(clients, self._entries.mdelete, keys)
            if cursor is None:
                return

    async def _purge(self, clients: Clients, prefix: str, skip: str, what: Purge) -> int:
        self.check_purge(what)
        if what.older_than is None:
            return 0  # what expired the server drops by itself
        before = self._clock.time() - what.older_than
        dropped, cursor = 0, None
        while True:
            keys, cursor = await self._call(clients, self._entries.scan, prefix, skip, cursor, _CLEAR_PAGE)
            keys = await self._call(clients, self._entries.written_before, keys, before) if keys else keys
            if keys:
                await self._call(clients, self._entries.mdelete, keys)
                dropped += len(keys)
            if cursor is None:
                return dropped

    def check_purge(self, what: Purge) -> None:
        """See `ChecksPurge`."""
        if what.idle is not None:
            raise ConfigError(
                "purge: Redis tells nobody for certain when an entry was last used (its own maxmemory-policy "
                "allkeys-lru goes by that); purge by older_than="
            )


class BlockingStore(Store):
    """The operations for blocking callers."""

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return drive(self._call(self._blocking, self._entries.mget, keys))

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """See `SupportsLengths`."""
        return drive(self._call(self._blocking, self._entries.lengths, keys))

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        self.put(blobs, blobs.values)

    def put(self, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]) -> None:
        """`mset` of what ``blobs`` gives for ``keys``, one by one as they are sent; called anew for a second
        try."""
        drive(self._call(self._blocking, self._entries.put, keys, blobs))

    def mdelete(self, keys: Sequence[str]) -> None:
        drive(self._call(self._blocking, self._entries.mdelete, keys))

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """See `SupportsScan`. A key may be listed twice; a page may be empty."""
        return drive(self._call(self._blocking, self._entries.scan, prefix, skip, cursor, limit))

    def clear(self, prefix: str, *, skip: str = "") -> None:
        """See `SupportsClear`. Lists and drops page by page; each step has the deadline."""
        drive(self._clear(self._blocking, prefix, skip))

    def purge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        """See `SupportsPurge`. Lists, looks and drops page by page; each step has the deadline."""
        return drive(self._purge(self._blocking, prefix, skip, what))

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SupportsLease`."""
        return drive(self._call(self._blocking, _lease.acquire, self._prefix, keys, token, seconds))

    def release(self, keys: Sequence[str], token: str) -> None:
        """See `SupportsLease`."""
        drive(self._call(self._blocking, _lease.release, self._prefix, keys, token))

    ledgers = True

    def post(self, deposit: Deposit) -> None:
        """See `SupportsLedger`, as the next three."""
        drive(self._call(self._blocking, _ledger.post, self._prefix, deposit))

    def posted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        return drive(self._posted(self._blocking, since))

    def spent(self, day: str, namespace: str) -> int:
        return drive(self._call(self._blocking, _ledger.spent, self._prefix, day, namespace))

    def claim(self, day: str, name: str, token: str) -> bool:
        return drive(self._call(self._blocking, _ledger.claim, self._prefix, day, name, token))

    def about(self) -> About:
        """See `SupportsAbout`."""
        return drive(self._call(self._blocking, _about.ask, self._clock))

    def close(self) -> None:
        """Close the blocking client; asyncio clients close with `aclose`, or with their loops."""
        self._closed = True
        self._blocking.close()


class NativeStore(Store):
    """The same for async callers."""

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._call(self._native, self._entries.mget, keys)

    async def alengths(self, keys: Sequence[str]) -> dict[str, int]:
        return await self._call(self._native, self._entries.lengths, keys)

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        await self.aput(blobs, blobs.values)

    async def aput(self, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]) -> None:
        await self._call(self._native, self._entries.put, keys, blobs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._call(self._native, self._entries.mdelete, keys)

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        return await self._call(self._native, self._entries.scan, prefix, skip, cursor, limit)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._clear(self._native, prefix, skip)

    async def apurge(self, prefix: str, *, skip: str = "", what: Purge) -> int:
        return await self._purge(self._native, prefix, skip, what)

    async def aacquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        return await self._call(self._native, _lease.acquire, self._prefix, keys, token, seconds)

    async def arelease(self, keys: Sequence[str], token: str) -> None:
        await self._call(self._native, _lease.release, self._prefix, keys, token)

    ledgers = True

    async def apost(self, deposit: Deposit) -> None:
        await self._call(self._native, _ledger.post, self._prefix, deposit)

    async def aposted(self, since: str) -> list[tuple[Account, dict[str, int]]]:
        return await self._posted(self._native, since)

    async def aspent(self, day: str, namespace: str) -> int:
        return await self._call(self._native, _ledger.spent, self._prefix, day, namespace)

    async def aclaim(self, day: str, name: str, token: str) -> bool:
        return await self._call(self._native, _ledger.claim, self._prefix, day, name, token)

    async def aclose(self) -> None:
        self._closed = True
        if self._blocking is not None:
            self._blocking.close()
        await self._native.aclose()


class RedisStore(BlockingStore, NativeStore):
    """Both."""
