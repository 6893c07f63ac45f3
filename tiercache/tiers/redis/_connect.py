"""Where a Redis server is and how to reach it: URLs, and the clients made from them.

An `Endpoint` is parsed and checked without any I/O; `blocking` and `native` make what a wire of
`_wires` travels over: a connection pool for one server or a Sentinel's master, a cluster client
for a cluster. Nothing connects before the first command, except that a blocking cluster client reads
its topology while it is made.

Clients of ours never retry and never wait longer than their share of the tier's deadline: redis-py's own
defaults hold a call for most of a minute.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio.cluster
import redis.asyncio.connection
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.connection
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from tiercache._masking import blot, mask_place
from tiercache.errors import ConfigError
from tiercache.tiers.redis._bounded import bounded

__all__ = ["MAX_CONNECTIONS", "SCHEMES", "Endpoint", "describe_client"]

SCHEMES = (
    "redis://",
    "rediss://",
    "unix://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
)

#: How many calls talk to the servers at once, in a process or an event loop; the others wait their turn.
MAX_CONNECTIONS = 64

_redis: Any = redis  # its sentinel and cluster modules are only half annotated

_UNBOUNDED = 2**31  # the wire's own turnstile bounds calls, and waits; a full pool of redis-py only raises

#: What an option of the URL would undermine, and what takes its place.
_OURS = {
    "timeout": "the tier's deadline",
    "socket_timeout": "the tier's deadline",
    "socket_connect_timeout": "the tier's deadline",
    "retry_on_timeout": "nothing: a call is tried again only where its connection was stale",
    "retry_on_error": "nothing: a call is tried again only where its connection was stale",
    "decode_responses": "nothing: values are bytes",
    "encoding": "nothing: values are bytes",
    "encoding_errors": "nothing: values are bytes",
}


def describe_client(client: Any) -> str:
    """A URL without secrets for a client that somebody else made."""
    if isinstance(client, redis.cluster.RedisCluster | redis.asyncio.cluster.RedisCluster):
        return "redis+cluster://" + ",".join(client.nodes_manager.startup_nodes)
    pool = client.connection_pool
    if isinstance(
        pool, redis.sentinel.SentinelConnectionPool | redis.asyncio.sentinel.SentinelConnectionPool
    ):
        return f"redis+sentinel:///{pool.service_name}"
    options = pool.connection_kwargs
    if "path" in options:
        return f"unix://{options['path']}"
    return f"redis://{options.get('host', 'localhost')}:{options.get('port', 6379)}/{options.get('db', 0)}"


class Endpoint:
    """A parsed URL. Raises `ConfigError`, with the URL masked, for one that cannot be used.

    ``redis://[user:password@]host[:port][/db][?option=…]``, and ``rediss://`` with TLS
        one server; so does ``unix://[user:password@]/path``.
    ``redis+sentinel://[user:password@]host:port,host:port/service[/db]``
        the master that the Sentinels know by that name. User and password are the master's; the options
        ``sentinel_username`` and ``sentinel_password`` are the Sentinels'.
    ``redis+cluster://[user:password@]host:port,host:port``
        a cluster that has these nodes, and others perhaps.

    The last two have a TLS form, ``rediss+…``. Options are those of redis-py's connections.
    """

    def __init__(self, url: str, deadline: float) -> None:
        self.masked = mask_place(url)
        scheme, separator, rest = url.partition("://")
        if scheme + separator not in SCHEMES:
            allowed = ", ".join(SCHEMES)
            raise ConfigError(f"RedisTier: {self.masked!r} is of an unknown scheme; allowed: {allowed}")
        transport, _, kind = scheme.partition("+")
        self.kind = kind or ("unix" if transport == "unix" else "single")
        self.tls = transport == "rediss"
        self.hosts: list[tuple[str, int]] = []
        self.service = ""
        self.sentinel_options: dict[str, Any] = {}
        try:
            options = self._parse(rest)
        except ConfigError:
            raise
        except ValueError as error:
            raise self._wrong(blot(str(error), url)) from None
        self.limit = options.pop("max_connections", MAX_CONNECTIONS)
        # Each server that may have to be asked before the right one answers has a share of the time.
        self._step = deadline / (len(self.hosts) + 1) if kind else deadline
        # A cluster client asks one node for its commands when it is made; another when that one hangs.
        self._retries = 1 if self.kind == "cluster" else 0
        self._options = {"protocol": 2} | options  # RESP 3 offers nothing here, and costs a round trip
        self._check(url)

    @property
    def place(self) -> str:
        """The same for every URL and client of one database, as `describe_client` says it."""
        if self.kind == "unix":
            return f"unix://{self._options['path']}"
        if self.kind == "sentinel":
            return f"redis+sentinel:///{self.service}"
        hosts = [f"{host}:{port}" for host, port in self.hosts]
        if self.kind == "cluster":
            return f"redis+cluster://{','.join(hosts)}"
        return f"redis://{hosts[0]}/{self._options.get('db', 0)}"

    def blocking(self) -> tuple[Any, list[Callable[[], Any]]]:
        """A `redis.ConnectionPool`, or a connected `RedisCluster`; and what closes it."""
        options = self._with_deadlines(Retry(NoBackoff(), self._retries))
        if self.kind == "cluster":
            cluster = _redis.cluster.RedisCluster(**self.cluster_options())
            return cluster, [cluster.close]  # the wire sees to its pools, which come and go
        pool: Any
        if self.kind == "sentinel":
            sentinel = _redis.sentinel.Sentinel(self.hosts, sentinel_kwargs=self._for_sentinels(options))
            pool = _redis.sentinel.SentinelConnectionPool(self.service, sentinel, ssl=self.tls, **options)
            for each in (pool, *(client.connection_pool for client in sentinel.sentinels)):
                each.connection_class = bounded(each.connection_class)
            return pool, [pool.disconnect, *(client.close for client in sentinel.sentinels)]
        kind = bounded(self._connection_class(redis.connection))
        pool = redis.ConnectionPool(connection_class=kind, **options)
        return pool, [pool.disconnect]

    def cluster_options(self) -> dict[str, Any]:
        """What a blocking `RedisCluster` is made with."""
        nodes = [_redis.cluster.ClusterNode(*host) for host in self.hosts]
        options = self._with_deadlines(Retry(NoBackoff(), self._retries))
        return options | {"startup_nodes": nodes, "ssl": self.tls}

    def native(self) -> tuple[Any, list[Callable[[], Any]]]:
        """An asyncio pool or cluster client for the running loop, not connected; and what closes it."""
        options = self._with_deadlines(redis.asyncio.retry.Retry(NoBackoff(), self._retries))
        if self.kind == "cluster":
            nodes = [_redis.asyncio.cluster.ClusterNode(*host) for host in self.hosts]
            cluster = _redis.asyncio.cluster.RedisCluster(startup_nodes=nodes, ssl=self.tls, **options)
            manager = cluster.nodes_manager  # `aclose` closes nothing unless the client initialized itself
            return cluster, [cluster.aclose, manager.aclose, partial(manager.aclose, "startup_nodes")]
        pool: Any
        if self.kind == "sentinel":
            sentinel = _redis.asyncio.sentinel.Sentinel(
                self.hosts, sentinel_kwargs=self._for_sentinels(options)
            )
            pool = _redis.asyncio.sentinel.SentinelConnectionPool(
                self.service, sentinel, ssl=self.tls, **options
            )
            return pool, [pool.disconnect, *(client.aclose for client in sentinel.sentinels)]
        # The call's own timer bounds every step; redis-py's would start a task for every write.
        options |= {"socket_timeout": None, "socket_connect_timeout": None}
        pool = redis.asyncio.ConnectionPool(
            connection_class=self._connection_class(redis.asyncio.connection), **options
        )
        return pool, [pool.disconnect]

    def _wrong(self, reason: str) -> ConfigError:
        return ConfigError(f"RedisTier: the URL {self.masked!r} cannot be used: {reason}")

    def _parse(self, rest: str) -> dict[str, Any]:
        """Fill in hosts and service; the connection's options, typed as redis-py types them."""
        options: dict[str, Any]
        if self.kind == "unix":
            options = _redis.connection.parse_url(f"unix://{rest}")
            if not options.get("path"):
                raise self._wrong("it names no socket; write unix:///path/to/socket")
        else:
            credentials, path, query = self._parse_address(rest)
            # redis-py reads the credentials and types the options; hosts are ours, it knows only one.
            options = _redis.connection.parse_url(f"redis://{credentials}@-/{path}?{query}")
            del options["host"]
        options.pop("connection_class", None)
        for name in _OURS.keys() & options.keys():
            raise self._wrong(f"its option {name!r} is not taken; in its place there is {_OURS[name]}")
        if self.kind == "cluster" and options.pop("db", 0):
            raise self._wrong("a cluster has database 0 only")
        for name in ("username", "password"):
            if self.kind == "sentinel" and f"sentinel_{name}" in options:
                self.sentinel_options[name] = options.pop(f"sentinel_{name}")
        return options

    def _parse_address(self, rest: str) -> tuple[str, str, str]:
        """Credentials, database and query; the hosts and the service are noted."""
        if "@" in rest and "@" not in re.split(r"[/?#]", rest, maxsplit=1)[0]:
            # Before anything is told of what looks like a host or database: it is a piece of the password.
            raise self._wrong("a password's / ? # and @ are written %2F %3F %23 and %40")
        address, _, query = rest.partition("?")
        authority, _, path = address.partition("/")
        credentials, _, hosts = authority.rpartition("@")
        self.hosts = [self._host(host) for host in hosts.split(",")]
        if self.kind == "single" and len(self.hosts) > 1:
            raise self._wrong("it names several hosts; use redis+cluster:// or redis+sentinel://")
        if self.kind == "sentinel":
            service, _, path = path.partition("/")
            self.service = unquote(service)
            if not self.service:
                raise self._wrong("it names no service; write redis+sentinel://host:port/service")
        if path and not path.isdecimal():
            raise self._wrong("its database is no number")  # and may be a password: it is not shown
        return credentials, path, query

    def _host(self, text: str) -> tuple[str, int]:
        parts = urlsplit(f"//{text}")
        if not parts.hostname and self.kind != "single":
            raise self._wrong("a host is missing; write host:port,host:port")
        try:
            port = parts.port
        except ValueError:
            raise self._wrong("a port is no number between 0 and 65535") from None
        return parts.hostname or "localhost", port or (26379 if self.kind == "sentinel" else 6379)

    def _check(self, url: str) -> None:
        """Have redis-py look at the options now: it would only do so at the first command."""
        if not isinstance(self.limit, int) or self.limit < 1:
            raise self._wrong("max_connections must be at least 1")
        try:
            self._connection_class(redis.connection)(**self._options)
        except TypeError as error:
            named = re.search(r"argument '(\w+)'", str(error))
            raise self._wrong(
                f"its option {named[1]!r} is unknown" if named else "an option is wrong"
            ) from None
        except (redis.RedisError, ValueError) as error:
            raise self._wrong(blot(str(error), url)) from None

    def _connection_class(self, module: Any) -> Any:
        if self.kind == "unix":
            return module.UnixDomainSocketConnection
        return module.SSLConnection if self.tls else module.Connection

    def _with_deadlines(self, retry: Any) -> dict[str, Any]:
        options = self._options | {
            "socket_timeout": self._step,
            "socket_connect_timeout": self._step,
            "retry": retry,
            "max_connections": _UNBOUNDED,
        }
        if self.kind == "single":
            options["host"], options["port"] = self.hosts[0]
        return options

    def _for_sentinels(self, options: dict[str, Any]) -> dict[str, Any]:
        shared = {
            name: value
            for name, value in options.items()
            if name.startswith(("socket_", "ssl_")) or name in ("retry", "protocol")
        }
        return shared | {"ssl": self.tls} | self.sentinel_options
