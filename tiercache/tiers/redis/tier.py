"""`RedisTier`: entries in Redis or Valkey; a single server, a Sentinel's master or a cluster.

Contract: one key under ``prefix`` for each entry, its value the envelope, its native expiry the
envelope's. Only single-key and read commands that may be repeated are sent, never a transaction, so
that a call can be tried again on a new connection when the pooled one turns out to be dead, and so that
the least rights suffice: ``-@all +get +mget +set +del +unlink +pttl +hello +auth +ping +client|setinfo
~<prefix>*``; listing and clearing need ``+scan`` too, leases ``+eval``, a cluster ``+cluster|slots +command
+asking``, another database than 0 ``+select``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from math import ceil
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

from tiercache.envelope import Secrets
from tiercache.errors import (
    CacheClosed,
    ConfigError,
    EntryRejected,
    MissingPackage,
    TierTimeout,
    TierUnavailable,
)

try:
    import redis
except ImportError as error:
    raise MissingPackage("redis", "redis", "RedisTier") from error

import redis.asyncio.cluster
import redis.cluster
import redis.sentinel

from tiercache.policies import Failure
from tiercache.protocols import SYSTEM_CLOCK, Blob, Clock
from tiercache.tiers.encoded import EncodedTier
from tiercache.tiers.redis import _lease
from tiercache.tiers.redis._clients import BlockingClients, NativeClients
from tiercache.tiers.redis._connect import MAX_CONNECTIONS, Endpoint, describe_client
from tiercache.tiers.redis._wire import Command, Moved, Request, Wire, drive, exchange, pack, perform
from tiercache.units import Duration, duration, optional_duration

__all__ = ["RedisTier"]

P = ParamSpec("P")
T = TypeVar("T")

BlockingClient: TypeAlias = "redis.Redis | redis.cluster.RedisCluster"
NativeClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.cluster.RedisCluster"
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

_REASONS: Sequence[tuple[type[Exception], str]] = (
    (redis.AuthenticationError, "it refused the user or password"),
    (redis.exceptions.OutOfMemoryError, "it is out of memory (maxmemory reached, nothing to evict)"),
    (redis.ReadOnlyError, "it is a replica, and takes no writes"),
    (redis.BusyLoadingError, "it is still loading its data"),
    (redis.exceptions.MaxConnectionsError, "the client's connection pool is exhausted"),
    (redis.sentinel.MasterNotFoundError, "no Sentinel that answers knows a healthy master of that name"),
    (redis.exceptions.SlotNotCoveredError, "the cluster does not cover all slots"),
    (redis.exceptions.ClusterDownError, "the cluster is down"),
    (redis.InvalidResponse, "it answered something else than Redis does"),
    (redis.exceptions.RedisClusterException, "no node of the cluster answers"),
)

_GLOB = re.compile(rb"([*?\[\]\\^])")


class RedisTier(EncodedTier):
    """A tier in Redis or Valkey.

    ``url``
        ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://host:port,host:port/service[/db]``,
        ``redis+cluster://host:port,host:port`` (the last two also as ``rediss+…``), or a client of
        redis-py that you made, blocking or asyncio, which is not closed and keeps its own time-outs
        for connecting.
    ``prefix``
        begins every key of this tier on the server; `clear` touches nothing else.
    ``ttl``
        the longest that this tier holds an entry; ``None``: as long as the entry lives.
    ``deadline``
        seconds for a whole call, connecting included; `scan` has it for a page, and `clear` for each of
        its steps, because their work grows with the database.
    ``breaker_failures``, ``breaker_pause``, ``retries``
        what a chain does when calls fail: see `Failure`.
    ``async_client``
        an asyncio client beside a blocking one in ``url``. A blocking client alone serves async
        callers from a worker thread; an asyncio client alone has no blocking methods.

    ``secret``
        signs the entries, where others can write to the server: see `EncodedTier`.

    Thread-safe, fork-safe, for any number of event loops (with a URL). Constructing does no I/O. A call
    raises `TierTimeout` when the deadline is over, `TierUnavailable` when the server cannot be
    reached or refuses, `EntryRejected` for values beyond 512 MiB, `CacheClosed` after `close`. The
    replicas of a cluster or of a Sentinel's master are never read: they may not know of a delete yet.
    """

    def __init__(
        self,
        url: str | BlockingClient | NativeClient,
        *,
        prefix: str = "tiercache:",
        ttl: Duration | None = None,
        deadline: Duration = 0.5,
        breaker_failures: int | None = 3,
        breaker_pause: Duration = 1.0,
        retries: int = 0,
        name: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
        secret: bytes | str | Sequence[bytes | str] | None = None,
        async_client: NativeClient | None = None,
    ) -> None:
        if not isinstance(prefix, str) or not prefix:
            raise ConfigError(
                f"RedisTier: prefix={prefix!r} must be a str that is not empty: it marks our keys"
            )
        secrets = Secrets.of(secret, "RedisTier.secret")
        seconds = duration(deadline, name="RedisTier: deadline")
        failure = Failure.of(
            "RedisTier",
            deadline=seconds,
            breaker_failures=breaker_failures,
            breaker_pause=breaker_pause,
            retries=retries,
        )
        kind, described, place, blocking, native = _clients(url, async_client, seconds)
        store: Any = kind(described, blocking, native, prefix=prefix, deadline=seconds, clock=clock)
        longest = optional_duration(ttl, name="RedisTier: ttl")
        super().__init__(store, name=name or "redis", ttl=longest, clock=clock, secret=secrets)
        self.failure = failure
        self.location = ("redis", place, prefix)


def _clients(
    url: str | BlockingClient | NativeClient, async_client: NativeClient | None, deadline: float
) -> tuple[type[_Store], str, str, BlockingClients | None, NativeClients | None]:
    """The kind of store, what to call the server, the place that its other names have in common, and the
    clients."""
    if isinstance(url, str):
        if async_client is not None:
            raise ConfigError("RedisTier: async_client= goes with a blocking client, not with a URL")
        endpoint = Endpoint(url, deadline)
        blocking = BlockingClients(endpoint.blocking, endpoint.limit, ours=True)
        native = NativeClients(endpoint.native, endpoint.limit, one_loop=False)
        return _RedisStore, endpoint.masked, endpoint.place, blocking, native
    given: list[Any] = [url] if async_client is None else [url, async_client]
    for client in given:
        if not isinstance(client, redis.Redis | redis.cluster.RedisCluster | _NATIVE):
            raise ConfigError(f"RedisTier: {type(client).__name__} is neither a URL nor a client of redis-py")
        if client.get_encoder().decode_responses:
            raise ConfigError(
                "RedisTier: the client has decode_responses=True, but values are bytes; set it to False"
            )
    described = describe_client(url)
    if isinstance(url, _NATIVE):
        if async_client is not None:
            raise ConfigError(
                "RedisTier: give the blocking client first and the asyncio client as async_client="
            )
        return _NativeStore, described, described, None, _given_native(url)
    if async_client is None:
        return _BlockingStore, described, described, _given_blocking(url), None
    if not isinstance(async_client, _NATIVE):
        raise ConfigError(
            f"RedisTier: async_client= is a {type(async_client).__name__}, which is no asyncio client"
        )
    return _RedisStore, described, described, _given_blocking(url), _given_native(async_client)


_NATIVE = redis.asyncio.Redis | redis.asyncio.cluster.RedisCluster


def _given_blocking(client: Any) -> BlockingClients:
    source = client if isinstance(client, redis.cluster.RedisCluster) else client.connection_pool
    return BlockingClients(lambda: (source, []), _limit_of(source), ours=False)


def _given_native(client: Any) -> NativeClients:
    source = client if isinstance(client, redis.asyncio.cluster.RedisCluster) else client.connection_pool
    return NativeClients(lambda: (source, []), _limit_of(source), one_loop=True)


def _limit_of(source: Any) -> int:
    return min(MAX_CONNECTIONS, getattr(source, "max_connections", MAX_CONNECTIONS))


class _Store:
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
                        return await work(wire, until, False, *args, **kwargs)
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
            raise TierTimeout(f"no answer from {self._described} within {self._deadline:g} s") from None
        except (redis.RedisError, redis.exceptions.RedisClusterException, OSError) as error:
            raise TierUnavailable(f"{self._described}: {self._reason(error)}") from None

    def _reason(self, error: Exception) -> str:
        """Why a server said no, in words that hold no key, value or password (its own may)."""
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return reason
        if isinstance(error, redis.exceptions.NoPermissionError):
            right = re.search(r"'([\w|]+)' command", str(error))
            return f"the user lacks the right {f'+{right[1]}' if right else f'~{self._prefix_text}*'}"
        if isinstance(error, redis.ResponseError):
            code = re.match(r"[A-Z]{4,}\b", str(error))
            return f"it answered an error, {code[0] if code else type(error).__name__}"
        return str(error) if isinstance(error, redis.ConnectionError) else type(error).__name__

    def _fold(self, key: str) -> bytes:
        return self._prefix + key.encode("utf-8", "surrogatepass")

    # -- the operations --

    async def _mget(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> dict[str, bytes]:
        folded = [self._fold(key) for key in keys]
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
        # Something else than a string under our key is no value of ours; MGET says so with a nil.
        _raise_errors(value for value in values if not _is_wrong_type(value))
        return {key: value for key, value in zip(keys, values, strict=True) if isinstance(value, bytes)}

    async def _mset(self, wire: Wire, until: float, last: bool, blobs: Mapping[str, Blob]) -> None:
        now = self._clock.time()
        commands: list[Command] = []
        too_large = []
        for key, (data, expires_at) in blobs.items():
            if len(data) > _MAX_VALUE:
                too_large.append(key)
            elif expires_at is None:
                commands.append((b"SET", self._fold(key), data))
            elif expires_at <= now:
                commands.append((b"UNLINK", self._fold(key)))  # over before it got here; the old one is too
            else:
                # Not PXAT, which would be exact but is the server's clock and newer than the rest.
                px = ceil(min((expires_at - now) * 1000, _MAX_PX))
                commands.append((b"SET", self._fold(key), data, b"PX", b"%d" % px))
        _raise_errors(await perform(wire, commands, until, last=last))
        if too_large:
            raise EntryRejected(too_large, "Redis holds at most 512 MiB under a key")

    async def _mdelete(self, wire: Wire, until: float, last: bool, keys: Sequence[str]) -> None:
        folded = [self._fold(key) for key in keys]
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
            [[answer]] = await exchange(wire, [Request(lanes[name], b"".join(pack(command)), 1)], until)
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


class _BlockingStore(_Store):
    """The operations for blocking callers."""

    def mget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return drive(self._call(self._blocking, self._mget, keys))

    def mset(self, blobs: Mapping[str, Blob]) -> None:
        drive(self._call(self._blocking, self._mset, blobs))

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

    def acquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        """See `SupportsLease`."""
        return drive(self._call(self._blocking, _lease.acquire, self._prefix, keys, token, seconds))

    def release(self, keys: Sequence[str], token: str) -> None:
        """See `SupportsLease`."""
        drive(self._call(self._blocking, _lease.release, self._prefix, keys, token))

    def close(self) -> None:
        """Close the blocking client; asyncio clients close with `aclose`, or with their loops."""
        self._closed = True
        self._blocking.close()


class _NativeStore(_Store):
    """The same for async callers."""

    async def amget(self, keys: Sequence[str]) -> dict[str, bytes]:
        return await self._call(self._native, self._mget, keys)

    async def amset(self, blobs: Mapping[str, Blob]) -> None:
        await self._call(self._native, self._mset, blobs)

    async def amdelete(self, keys: Sequence[str]) -> None:
        await self._call(self._native, self._mdelete, keys)

    async def ascan(
        self, prefix: str, *, skip: str = "", cursor: Any = None, limit: int = 1000
    ) -> tuple[list[str], Any]:
        return await self._call(self._native, self._scan, prefix, skip, cursor, limit)

    async def aclear(self, prefix: str, *, skip: str = "") -> None:
        await self._clear(self._native, prefix, skip)

    async def aacquire(self, keys: Sequence[str], token: str, seconds: float) -> list[str]:
        return await self._call(self._native, _lease.acquire, self._prefix, keys, token, seconds)

    async def arelease(self, keys: Sequence[str], token: str) -> None:
        await self._call(self._native, _lease.release, self._prefix, keys, token)

    async def aclose(self) -> None:
        self._closed = True
        if self._blocking is not None:
            self._blocking.close()
        await self._native.aclose()


class _RedisStore(_BlockingStore, _NativeStore):
    """Both."""


def _chunks(keys: list[bytes]) -> list[list[bytes]]:
    return [keys[start : start + _CHUNK] for start in range(0, len(keys), _CHUNK)]


def _is_wrong_type(reply: Any) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def _raise_errors(replies: Iterable[Any]) -> None:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
