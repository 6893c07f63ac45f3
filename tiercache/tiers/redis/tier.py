"""`RedisTier`: entries in Redis or Valkey; a single server, a Sentinel's master or a cluster.

Contract: one key under ``prefix`` for each entry, its value the envelope, its native expiry the
envelope's. Only single-key and read commands that may be repeated are sent, never a transaction, so
that a call can be tried again on a new connection when the pooled one turns out to be dead, and so that
the least rights suffice: ``-@all +get +mget +set +del +unlink +pttl +hello +auth +ping +client|setinfo
~<prefix>*``; listing and clearing need ``+scan`` too, purging ``+scan +getrange``, telling lengths
``+strlen``, leases ``+eval``, a ledger ``+eval +hget +hgetall +hset +hsetnx +hexists +hincrby +expire``, a
cluster ``+cluster|slots +command +asking``, another database than 0 ``+select``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from tiercache.entry import Entry
from tiercache.errors import ConfigError, MissingPackage

try:
    import redis
    import xxhash  # noqa: F401 - the envelope needs it too, and would not name this tier's extra
except ImportError as error:
    raise MissingPackage(error.name or "redis", "redis", "RedisTier") from error

import redis.asyncio.cluster
import redis.cluster
import redis.sentinel

from tiercache.envelope import Secrets, seal_all
from tiercache.policies import Failure
from tiercache.protocols import SYSTEM_CLOCK, Blob, Clock
from tiercache.tiers.encoded import EncodedTier
from tiercache.tiers.redis._clients import BlockingClients, NativeClients
from tiercache.tiers.redis._connect import MAX_CONNECTIONS, Endpoint, describe_client
from tiercache.tiers.redis._store import BlockingStore, NativeStore, RedisStore, Store
from tiercache.units import Duration, duration, optional_duration

__all__ = ["RedisTier"]

#: Batches after one that had more in it than plain values, for which nobody tries to do with those alone.
_DETOUR = 15

#: Entries whose envelopes are made at a time.
_SEALED = 100

BlockingClient: TypeAlias = "redis.Redis | redis.cluster.RedisCluster"
NativeClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.cluster.RedisCluster"


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
    ``breaker_failures``, ``breaker_pause``, ``breaker_longest``, ``retries``
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
        breaker_longest: Duration = 30.0,
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
            breaker_longest=breaker_longest,
            retries=retries,
        )
        kind, described, place, blocking, native = _clients(url, async_client, seconds)
        store: Any = kind(described, blocking, native, prefix=prefix, deadline=seconds, clock=clock)
        longest = optional_duration(ttl, name="RedisTier: ttl")
        super().__init__(store, name=name or "redis", ttl=longest, clock=clock, secret=secrets)
        self.failure = failure
        #: Its entries are whole, and those asked for alone: a chain need not look at each again. (A subclass
        #: may have `mget` do something of its own.)
        self.verifies = type(self) is RedisTier
        if self.verifies and blocking is not None:
            #: See `SupportsReadOne`.
            self.read_one = self._read_one
            if secrets is None:
                #: See `SupportsReadValues`.
                self.read_values = self._read_values
        self._detour = 0
        self.location = ("redis", place, prefix)

    def _mset(self, entries: Mapping[str, Entry[bytes]]) -> None:
        self._check_bytes(entries)
        self.store.put(entries, partial(self._sealed, entries))

    async def _amset(self, entries: Mapping[str, Entry[bytes]]) -> None:
        self._check_bytes(entries)
        entries = dict(entries)  # a caller may change its own meanwhile
        await self.store.aput(entries, partial(self._sealed, entries))

    def _sealed(self, entries: Mapping[str, Entry[bytes]]) -> Iterator[Blob]:
        """Their envelopes, some at a time: the server is at work on the first ones while the next ones are
        made, in the memory of those that were sent."""
        items = iter(entries.items())
        while some := dict(islice(items, _SEALED)):
            yield from seal_all(some, self._secrets).values()

    def _read_values(self, keys: Sequence[str], time: Callable[[], float]) -> dict[str, bytes] | None:
        # What is refused here is fetched again, so whoever met such a batch, as of a chain that keeps stale
        # values, asks for the next ones in the other way at once. (A count that threads spoil is as good.)
        if self._detour > 0:
            self._detour -= 1
            return None
        values = self._values_of(self.store.mget(keys), time)
        if values is None:
            self._detour = _DETOUR
        return values


def _clients(
    url: str | BlockingClient | NativeClient, async_client: NativeClient | None, deadline: float
) -> tuple[type[Store], str, str, BlockingClients | None, NativeClients | None]:
    """The kind of store, what to call the server, the place that its other names have in common, and the
    clients."""
    if isinstance(url, str):
        if async_client is not None:
            raise ConfigError("RedisTier: async_client= goes with a blocking client, not with a URL")
        endpoint = Endpoint(url, deadline)
        blocking = BlockingClients(endpoint.blocking, endpoint.limit, ours=True)
        native = NativeClients(endpoint.native, endpoint.limit, one_loop=False)
        return RedisStore, endpoint.masked, endpoint.place, blocking, native
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
        return NativeStore, described, described, None, _given_native(url)
    if async_client is None:
        return BlockingStore, described, described, _given_blocking(url), None
    if not isinstance(async_client, _NATIVE):
        raise ConfigError(
            f"RedisTier: async_client= is a {type(async_client).__name__}, which is no asyncio client"
        )
    return RedisStore, described, described, _given_blocking(url), _given_native(async_client)


_NATIVE = redis.asyncio.Redis | redis.asyncio.cluster.RedisCluster


def _given_blocking(client: Any) -> BlockingClients:
    source = client if isinstance(client, redis.cluster.RedisCluster) else client.connection_pool
    return BlockingClients(lambda: (source, []), _limit_of(source), ours=False)


def _given_native(client: Any) -> NativeClients:
    source = client if isinstance(client, redis.asyncio.cluster.RedisCluster) else client.connection_pool
    return NativeClients(lambda: (source, []), _limit_of(source), one_loop=True)


def _limit_of(source: Any) -> int:
    return min(MAX_CONNECTIONS, getattr(source, "max_connections", MAX_CONNECTIONS))
