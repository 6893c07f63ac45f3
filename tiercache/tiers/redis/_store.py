"""The byte stores of a Redis tier: every operation written once, for blocking and for async callers.

Only single-key and read commands that may be repeated are sent, never a transaction, so that a call can be
tried again on a new connection when the pooled one turns out to be dead.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import ceil
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import redis

from tiercache.accounts import Account, Deposit
from tiercache.envelope import HEAD, written_at
from tiercache.errors import (
    CacheClosed,
    ConfigError,
    EntryRejected,
    TierFull,
    TierTimeout,
    TierUnavailable,
)
from tiercache.protocols import About, Blob, Clock, Purge
from tiercache.tiers.redis import _about, _lease, _ledger
from tiercache.tiers.redis._clients import BlockingClients, NativeClients
from tiercache.tiers.redis._line import first_error
from tiercache.tiers.redis._refusals import refusal
from tiercache.tiers.redis._wire import Command, Moved, Request, Wire, drive, exchange, pack, perform

__all__ = ["BlockingStore", "NativeStore", "RedisStore", "Store"]

P = ParamSpec("P")
T = TypeVar("T")

Clients: TypeAlias = BlockingClients | NativeClients

#: Keys a ``MGET`` or ``UNLINK``: several such commands one after another beat a single large one, because
#: the server writes the next reply while we read this one.
_CHUNK = 100
#: Redis' own limit for a string.
_MAX_VALUE = 512 * 1024 * 1024
#: Milliseconds; an expiry beyond it would overflow the server's clock.
_MAX_PX = 10**15
#: Keys that a server looks at for one SCAN, at least: a page of few keys is no reason for many round trips.
_SCAN_COUNT = 100
#: How many keys `clear` asks for, and drops, at a time.
_CLEAR_PAGE = 1000

#: A server without TLS waits for the rest of what it takes for a command.
_TLS = "; it never answered this tier: does its port speak TLS?"

_BYTES = {bytes}

_GLOB = re.compile(rb"([*?\[\]\\^])")


class Store:
    """What all three stores share: every operation, written once for blocking and for async callers."""

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
                await wire.enter(until)
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
                        await wire.refresh()
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

    def _fold(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")

    def _fold_all(self, keys: Collection[str]) -> list[bytes]:
        prefix = self._prefix
        try:
            return [prefix + key.encode() for key in keys]
        except UnicodeEncodeError:  # lone surrogates; asking for them costs every other key
            return [prefix + key.encode("utf-8", "surrogatepass") for key in keys]

    # -- the operations --

    async def _mget(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> dict[str, bytes]:
        folded = self._fold_all(keys)
        if wire.cluster or len(keys) == 1:  # a MGET of a cluster must keep to one slot
            commands: list[Command] = [(b"GET", key) for key in folded]
            values = await perform(wire, commands, until, last=last)
        else:
            commands = [(b"MGET", *chunk) for chunk in _chunks(folded)]
            answers = await perform(wire, commands, until, last=last)
            _raise_errors(answers)
            values = [value for answer in answers if isinstance(answer, list) for value in answer]
        if len(values) != len(keys):
            raise redis.InvalidResponse
        found = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        if set(map(type, found.values())) <= _BYTES:
            return found
        # Something else than a string under our key is no value of ours; MGET says so with a nil.
        _raise_errors([value for value in values if not _is_wrong_type(value)])
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    async def _lengths(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> dict[str, int]:
        answers = await perform(wire, [(b"STRLEN", key) for key in self._fold_all(keys)], until, last=last)
        _raise_errors([answer for answer in answers if not _is_wrong_type(answer)])
        return {key: size for key, size in zip(keys, answers, strict=True) if isinstance(size, int) and size}

    async def _put(
        self, wire: Wire, until: float, last: bool, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]
    ) -> None:
        too_large: list[str] = []
        commands: Iterable[Command] = self._sets(keys, blobs(), too_large)
        if len(keys) == 1:  # others are made as they are sent
            commands = list(commands)
        _raise_errors(await perform(wire, commands, until, last=last))
        if too_large:
            raise EntryRejected(too_large, "Redis holds at most 512 MiB under a key")

    def _sets(self, keys: Collection[str], blobs: Iterable[Blob], too_large: list[str]) -> Iterator[Command]:
        """What stores ``blobs`` under ``keys``. ``too_large`` gets the keys of those that Redis refuses."""
        now = self._clock.time()
        known, px = None, b""  # most often all of a batch expire at the same time
        for key, name, (data, expires_at) in zip(keys, self._fold_all(keys), blobs, strict=True):
            if len(data) > _MAX_VALUE:
                too_large.append(key)
            elif expires_at is None:
                yield b"SET", name, data
            elif expires_at <= now:
                yield b"UNLINK", name  # over before it got here; the old one is too
            else:
                if expires_at != known:
                    # Not PXAT, which would be exact but is the server's clock and newer than the rest.
                    known, px = expires_at, b"%d" % ceil(min((expires_at - now) * 1000, _MAX_PX))
                yield b"SET", name, data, b"PX", px

    async def _mdelete(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> None:
        folded = self._fold_all(keys)
        chunks = [[key] for key in folded] if wire.cluster else _chunks(folded)
        _raise_errors(await perform(wire, [(b"UNLINK", *chunk) for chunk in chunks], until, last=last))

    async def _scan(
        self,
        wire: Wire,
        until: float,
        last: bool,  # noqa: ARG002 - listing has no second way
        prefix: str,
        skip: str,
        cursor: tuple[str, int] | None,
        limit: int,
    ) -> tuple[list[str], tuple[str, int] | None]:
        """A page of one server; the cursor is a server's name and its own cursor."""
        lanes = wire.lanes()
        names = sorted(lanes)
        name, position = cursor or (names[0], 0)
        if name not in lanes:  # it left the cluster: go on with the one that would have come next
            name, position = next((other for other in names if other > name), ""), 0
            if name not in lanes:
                return [], None
        pattern = _GLOB.sub(rb"\\\1", self._fold(prefix)) + b"*"
        count = b"%d" % max(limit, _SCAN_COUNT)
        found: list[bytes] = []
        enough = (monotonic() + until) / 2
        while True:  # where other people's keys are many, most answers are empty
            command = (b"SCAN", b"%d" % position, b"MATCH", pattern, b"COUNT", count)
            [[answer]] = await exchange(wire, [Request(lanes[name], pack(command), 1)], until)
            _raise_errors([answer])
            if not isinstance(answer, list) or len(answer) != 2:
                raise redis.InvalidResponse
            position = int(answer[0])
            found += answer[1]
            if not position or len(found) >= limit or monotonic() > enough:
                break
        following = name if position else next((other for other in names if other > name), None)
        return self._unfold(found, prefix, skip), None if following is None else (following, position)

    def _unfold(self, found: Iterable[bytes], prefix: str, skip: str) -> list[str]:
        keys = dict[str, None]()  # SCAN may show a key twice
        for folded in found:
            try:
                key = folded[len(self._prefix) :].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                continue  # somebody else's, under our prefix
            if key.startswith(prefix) and not (skip and key.startswith(skip)):
                keys[key] = None
        return list(keys)

    async def _clear(self, clients: Clients, prefix: str, skip: str) -> None:
        cursor = None
        while True:
            keys, cursor = await self._call(clients, self._scan, prefix, skip, cursor, _CLEAR_PAGE)
            if keys:
                await self._call(clients, self._mdelete, keys)
            if cursor is None:
                return

    async def _purge(self, clients: Clients, prefix: str, skip: str, what: Purge) -> int:
        self.check_purge(what)
        if what.older_than is None:
            return 0  # what expired the server drops by itself
        before = self._clock.time() - what.older_than
        dropped, cursor = 0, None
        while True:
            keys, cursor = await self._call(clients, self._scan, prefix, skip, cursor, _CLEAR_PAGE)
            keys = await self._call(clients, self._written_before, keys, before) if keys else keys
            if keys:
                await self._call(clients, self._mdelete, keys)
                dropped += len(keys)
            if cursor is None:
                return dropped

    async def _written_before(
        self, wire: Wire, until: float, last: bool, keys: Sequence[str], before: float
    ) -> list[str]:
        """Those of ``keys`` whose envelopes say so; only their heads are read."""
        commands: list[Command] = [(b"GETRANGE", self._fold(key), b"0", b"%d" % (HEAD - 1)) for key in keys]
        heads = await perform(wire, commands, until, last=last)
        _raise_errors([head for head in heads if not _is_wrong_type(head)])
        times = [written_at(head) if isinstance(head, bytes) else None for head in heads]
        return [key for key, time in zip(keys, times, strict=True) if time is not None and time < before]

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
        return drive(self._call(self._blocking, self._mget, keys))

    def lengths(self, keys: Sequence[str]) -> dict[str, int]:
        """See `SupportsLengths`."""
        return drive(self._call(self._blocking, self._lengths, keys))

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        self.put(blobs, blobs.values)

    def put(self, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]) -> None:
        """`mset` of what ``blobs`` gives for ``keys``, one by one as they are sent; called anew for a second
        try."""
        drive(self._call(self._blocking, self._put, keys, blobs))

    def mdelete(self, keys: Sequence[str]) -> None:
        drive(self._call(self._blocking, self._mdelete, keys))

    def scan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        """See `SupportsScan`. A key may be listed twice; a page may be empty."""
        return drive(self._call(self._blocking, self._scan, prefix, skip, cursor, limit))

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
        return await self._call(self._native, self._mget, keys)

    async def alengths(self, keys: Sequence[str]) -> dict[str, int]:
        return await self._call(self._native, self._lengths, keys)

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        await self.aput(blobs, blobs.values)

    async def aput(self, keys: Collection[str], blobs: Callable[[], Iterable[Blob]]) -> None:
        await self._call(self._native, self._put, keys, blobs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._call(self._native, self._mdelete, keys)

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        return await self._call(self._native, self._scan, prefix, skip, cursor, limit)

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


def _chunks(keys: list[bytes]) -> list[list[bytes]]:
    return [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]


def _is_wrong_type(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def _raise_errors(replies: Sequence[Any]) -> None:
    error = first_error(replies)
    if error is not None:
        raise error
