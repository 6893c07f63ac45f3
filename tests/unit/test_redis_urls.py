"""`RedisTier`'s arguments: what it takes, what it refuses and in which words. Nothing here connects."""

from __future__ import annotations

import asyncio
import re

import pytest
import redis
import redis.asyncio
from absent import said_without
from selections import together

from tiercache.errors import ConfigError
from tiercache.protocols import AsyncTier, SupportsClear, SupportsPurge, SupportsScan, Tier
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis._connect import Endpoint, describe_client


def endpoint(url: str) -> Endpoint:
    return Endpoint(url, deadline=0.5)


def test_single_server_by_url():
    pool, _ = endpoint("redis://me:p%40ss@cache.example:7000/3?client_name=app").blocking()
    options = pool.connection_kwargs
    assert (options["host"], options["port"], options["db"]) == ("cache.example", 7000, 3)
    assert (options["username"], options["password"], options["client_name"]) == ("me", "p@ss", "app")
    assert issubclass(pool.connection_class, redis.Connection)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", ("localhost", 6379)),
        ("redis://h", ("h", 6379)),
        ("redis://[::1]:7000/", ("::1", 7000)),
        ("redis://:secret@h:1/0", ("h", 1)),
    ],
)
def test_defaults_of_a_single_server(url, address):
    options = endpoint(url).blocking()[0].connection_kwargs
    assert (options["host"], options["port"], options.get("db", 0)) == (*address, 0)


def test_tls_and_socket_classes():
    assert issubclass(endpoint("rediss://h").blocking()[0].connection_class, redis.SSLConnection)
    assert issubclass(endpoint("rediss://h").native()[0].connection_class, redis.asyncio.SSLConnection)
    unix = endpoint("unix://me:pw@/run/redis.sock?db=2").native()[0]
    assert issubclass(unix.connection_class, redis.asyncio.UnixDomainSocketConnection)
    assert unix.connection_kwargs["path"] == "/run/redis.sock"
    assert unix.connection_kwargs["db"] == 2


def test_sentinel_by_url():
    url = "redis+sentinel://me:pw@s1:1,s2/my%2Fmaster/4?sentinel_username=w&sentinel_password=wp"
    pool, closers = endpoint(url).blocking()
    assert pool.service_name == "my/master"
    assert pool.connection_kwargs["db"] == 4
    assert "pw" in pool.connection_kwargs["password"]
    watchers = [client.connection_pool.connection_kwargs for client in pool.sentinel_manager.sentinels]
    assert [(w["host"], w["port"], w["username"], w["password"]) for w in watchers] == [
        ("s1", 1, "w", "wp"),
        ("s2", 26379, "w", "wp"),
    ]
    assert len(closers) == 3  # the pool and both clients of the Sentinels


def test_every_step_has_its_share_of_the_deadline():
    pool, _ = endpoint("redis+sentinel://s1,s2,s3,s4/m").blocking()
    assert pool.connection_kwargs["socket_timeout"] == pytest.approx(0.1)
    watcher = pool.sentinel_manager.sentinels[0].connection_pool.connection_kwargs
    assert watcher["socket_connect_timeout"] == pytest.approx(0.1)
    assert watcher["retry"].get_retries() == 0
    assert pool.connection_kwargs["retry"].get_retries() == 0
    assert endpoint("redis://h").blocking()[0].connection_kwargs["socket_connect_timeout"] == 0.5


def test_cluster_by_url():
    cluster = endpoint("rediss+cluster://h1:7000,h2:7001")
    assert (cluster.kind, cluster.tls, cluster.hosts) == ("cluster", True, [("h1", 7000), ("h2", 7001)])


@together(
    ("url", "said"),
    [
        ("http://h", "unknown scheme; allowed: redis://, rediss://, unix://, redis+sentinel://"),
        ("localhost:6379", "'localhost:6379' is of an unknown scheme"),
        ("sesame", "'***' is of an unknown scheme"),
        ("", "unknown scheme"),
        ("redis+unix://x", "unknown scheme"),
        ("redis://h:notaport", "cannot be used: a port is no number"),
        ("redis://h:99999", "cannot be used: a port is no number"),
        ("redis://h/sesame", "'redis://h/***' cannot be used: its database is no number"),
        ("redis://h?db=x", "Invalid value for 'db'"),
        ("redis://h1,h2", "names several hosts; use redis+cluster:// or redis+sentinel://"),
        ("redis://h?retries=3", "option 'retries' is unknown"),
        (
            "redis://h?socket_timeout=3",
            "'socket_timeout' is not taken; in its place there is the tier's deadline",
        ),
        ("redis://h?decode_responses=1", "'decode_responses' is not taken"),
        ("redis://h?protocol=9", "protocol must be either 2 or 3"),
        ("redis://h?max_connections=0", "max_connections must be at least 1"),
        ("unix://", "names no socket"),
        ("redis+sentinel://h:1", "names no service"),
        (
            "redis+sentinel://h:1/m/x",
            "'redis+sentinel://h:1/m/***' cannot be used: its database is no number",
        ),
        ("redis+sentinel:///m", "a host is missing"),
        ("redis+cluster://h:1,,h:2", "a host is missing"),
        ("redis+cluster://h:1/2", "a cluster has database 0 only"),
    ],
)
def test_wrong_urls_are_refused_at_once(url, said):
    with pytest.raises(ConfigError, match=re.escape(said)):
        RedisTier(url)


@together("scheme", ["redis", "rediss", "redis+sentinel", "redis+cluster"])
@together("mark", ["/", "?", "#", "/@", "?x=@"])
@together("begin", ["7", "hunter2"])
def test_a_password_that_was_not_quoted_is_not_told(scheme, mark, begin):
    with pytest.raises(ConfigError, match="are written %2F %3F %23 and %40") as caught:
        RedisTier(f"{scheme}://user:{begin}{mark}secret@host:1/0")
    assert "hunter2" not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"prefix": ""}, "prefix='' must be"),
        ({"prefix": b"x"}, "must be a str"),
        ({"deadline": 0}, "RedisTier: deadline"),
        ({"deadline": float("nan")}, "RedisTier: deadline"),
        ({"ttl": -1}, "RedisTier: ttl"),
        ({"async_client": redis.asyncio.Redis()}, "not with a URL"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, said):
    with pytest.raises(ConfigError, match=said):
        RedisTier("redis://h", **arguments)


@pytest.mark.parametrize("client", [object(), 6379, None])
def test_what_is_no_client_is_refused(client):
    with pytest.raises(ConfigError, match="neither a URL nor a client"):
        RedisTier(client)


def test_clients_that_decode_are_refused():
    with pytest.raises(ConfigError, match="decode_responses=True, but values are bytes"):
        RedisTier(redis.Redis(decode_responses=True))
    with pytest.raises(ConfigError, match="decode_responses=True"):
        RedisTier(redis.Redis(), async_client=redis.asyncio.Redis(decode_responses=True))


def test_clients_in_the_wrong_place_are_refused():
    with pytest.raises(ConfigError, match="is no asyncio client"):
        RedisTier(redis.Redis(), async_client=redis.Redis())
    with pytest.raises(ConfigError, match="blocking client first"):
        RedisTier(redis.asyncio.Redis(), async_client=redis.asyncio.Redis())


def test_a_tier_can_do_what_its_clients_can():
    both = RedisTier("redis://h")
    assert isinstance(both, Tier)
    assert isinstance(both, AsyncTier)
    assert isinstance(both, SupportsScan)
    assert isinstance(both, SupportsClear)
    assert isinstance(both, SupportsPurge)
    blocking = RedisTier(redis.Redis())
    assert isinstance(blocking, Tier)
    assert not isinstance(blocking, AsyncTier)
    native = RedisTier(redis.asyncio.Redis())
    assert not isinstance(native, Tier)
    assert isinstance(native, AsyncTier)
    paired = RedisTier(redis.Redis(), async_client=redis.asyncio.Redis())
    assert isinstance(paired, Tier)
    assert isinstance(paired, AsyncTier)
    assert {tier.name for tier in (both, blocking, native, paired)} == {"redis"}
    assert RedisTier("redis://h", name="l3").name == "l3"


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("redis://me:secret@h:1/0", "redis://me:***@h:1/0"),
        ("redis://:secret@h", "redis://:***@h"),
        ("redis://me@h", "redis://***@h"),  # it may be the password, without its ":"
        ("redis://h:1/0", "redis://h:1/0"),
        ("redis+cluster://u:a%40b@h1:1,h2:2", "redis+cluster://u:***@h1:1,h2:2"),
        ("redis://h?password=secret&db=1", "redis://h?password=***&db=1"),
        ("redis+sentinel://h/m?sentinel_password=secret", "redis+sentinel://h/m?sentinel_password=***"),
    ],
)
def test_secrets_are_masked(url, masked):
    assert endpoint(url).masked == masked
    assert repr(RedisTier(url)) == f"RedisTier({masked}, prefix='tiercache:')"
    wrong = "&nonsense=1" if "?" in url else "?nonsense=1"
    with pytest.raises(ConfigError, match=re.escape(f"the URL '{masked}{wrong}' cannot be used")):
        RedisTier(url + wrong)


@pytest.mark.parametrize(
    "url",
    [
        "redis://me:secret@h:1",
        "redis://h?password=secret",
        "unix://me:secret@/run/s",
        "redis+sentinel://:secret@h:1/m?sentinel_password=secret",
        "redis+cluster://:secret@h:1",
    ],
)
def test_repr_has_no_secrets(url):
    assert "secret" not in repr(RedisTier(url))
    assert "tiercache:" in repr(RedisTier(url))


def test_errors_have_no_secrets():
    for url in (
        "redis://me:secret@h:port", "ftp://me:secret@h", "redis://h?password=secret&nonsense=1",
        "redis://me:secret", "redis://:secret", "redis:/:secret", "redis://h1,me:secret", "redis://me:[secret]@h",
        "redis://me:p@ss/secret@h", "host=h password=secret", "unix://me:[secret]@/run/s",
    ):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            RedisTier(url)
        assert "secret" not in str(caught.value)


def test_given_clients_are_described_without_secrets():
    word = "secret"
    assert describe_client(redis.Redis(host="h", port=1, password=word)) == "redis://h:1/0"
    assert describe_client(redis.Redis(unix_socket_path="/run/s", password=word)) == "unix:///run/s"
    assert describe_client(redis.asyncio.Redis(host="h", db=2)) == "redis://h:6379/2"
    master = redis.Sentinel([("h", 1)]).master_for("m", password=word)
    assert describe_client(master) == "redis+sentinel:///m"


def test_constructing_and_closing_do_no_io():
    # No such host: a look-up or a connection would raise, and hang on some machines.
    for url in (
        "redis://no-such-host.invalid",
        "redis+cluster://no-such-host.invalid:1",
        "redis+sentinel://no-such-host.invalid:1/m",
    ):
        RedisTier(url).close()
        asyncio.run(RedisTier(url).aclose())


@pytest.mark.parametrize(
    ("missing", "named"),
    [(["redis"], "redis"), (["xxhash"], "xxhash"), (["redis", "xxhash"], "redis")],
    ids=["redis", "xxhash", "both"],
)
def test_a_missing_package_is_named(missing, named):
    said = said_without(*missing, code="import tiercache.tiers.redis")
    assert said.startswith(f"RedisTier needs the package '{named}'")
    assert 'pip install "tiercache-framework[redis]"' in said
