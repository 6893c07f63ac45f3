"""`RedisTier` on real servers: what lies on them afterwards, under which rights, and on which topology."""

from __future__ import annotations

import asyncio
import math
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import redis
import redis.asyncio
from apis import both_apis
from servers.valkey import running

from tiercache import MemoryTier, TieredCache
from tiercache.archive import export_archive
from tiercache.entry import Entry
from tiercache.errors import CacheClosed, ConfigError, EntryRejected, TierUnavailable
from tiercache.testing import FakeClock
from tiercache.tiers.redis import RedisTier

HOUR = 3600.0


@pytest.fixture
def server(valkey):
    valkey.flush()
    return valkey


@pytest.fixture
def look(server):
    with server.client() as client:
        yield client


@pytest.fixture
def tier(server):
    tier = RedisTier(server.url, deadline=10)
    yield tier
    tier.close()


def values(found):
    return {key: entry.value for key, entry in found.items()}


def everything(tier, prefix="", **options):
    keys, cursor = tier.scan(prefix, **options)
    while cursor is not None:
        page, cursor = tier.scan(prefix, cursor=cursor, **options)
        keys += page
    return keys


@both_apis
def test_each_call_by_protocol_3_over_a_unix_socket(call, server, look):
    """The whole suite of the protocol takes this way among the long tests."""
    with TieredCache([RedisTier(f"{server.unix_url}?protocol=3", deadline=10)], lock="shared") as cache:
        assert call(cache, "mset", {"a": b"1", "b": b"2", "c": b"3"}, ttl=HOUR).failed == ()
        assert call(cache, "mget", ["a", "x", "c"]) == [b"1", None, b"3"]
        assert call(cache, "get_or_load", "d", lambda _: b"4") == b"4"
        assert sorted(call(cache, "keys")) == ["a", "b", "c", "d"]
        assert call(cache, "mdelete", ["a", "d"]).failed == ()
        assert call(cache, "mget", ["a", "d", "b"]) == [None, None, b"2"]
        assert call(cache, "purge", older_than=HOUR) == 0
        call(cache, "clear")
        assert (list(cache.keys()), look.dbsize()) == ([], 0)
        assert cache.stats().tiers[0].errors == 0


# -- what lies on the server --


def test_native_expiry_is_the_envelopes(tier, look):
    expires_at = time.time() + HOUR
    lives = {"an hour": expires_at, "a blink": time.time() + 0.05, "for ever": None, "longest": 1e300}
    tier.mset({key: Entry(b"v", life) for key, life in lives.items()})
    left = look.pttl("tiercache:an hour") / 1000
    assert time.time() + left == pytest.approx(expires_at, abs=0.05)
    assert look.pttl("tiercache:for ever") == -1
    assert look.pttl("tiercache:longest") > 10**14
    while look.exists("tiercache:a blink"):  # the server's own clock rules
        time.sleep(0.01)
    assert set(tier.mget(list(lives))) == {"an hour", "for ever", "longest"}


def test_overwriting_without_expiry_lifts_it(tier, look):
    tier.mset({"key": Entry(b"1", time.time() + HOUR)})
    tier.mset({"key": Entry(b"2")})
    assert look.pttl("tiercache:key") == -1
    assert values(tier.mget(["key"])) == {"key": b"2"}


def test_what_is_over_before_it_is_stored_takes_the_old_value_along(tier, look):
    tier.mset({"key": Entry(b"old")})
    tier.mset({"key": Entry(b"new", time.time() - 1), "other": Entry(b"o")})
    assert look.keys() == [b"tiercache:other"]


def test_keys_are_the_prefix_and_the_key(server, look):
    tier = RedisTier(server.url, prefix="über:")
    keys = ["", "a/b", "\0\n", "ä", "\ud800", "{tag}", "*", "k" * 10_000]
    tier.mset({key: Entry(key.encode("utf-8", "surrogatepass")) for key in keys})
    expected = {b"\xc3\xbcber:" + key.encode("utf-8", "surrogatepass") for key in keys}
    assert set(look.keys()) == expected
    assert sorted(everything(tier)) == sorted(keys)
    tier.close()


def test_clear_keeps_to_its_prefix_and_range(server, look):
    ours, theirs = RedisTier(server.url, prefix="app*:"), RedisTier(server.url, prefix="app:")
    look.mset({"foreign": b"1", "app": b"2", "appx:key": b"3", b"app*:\xff": b"not utf-8"})
    theirs.mset({"key": Entry(b"theirs")})
    ours.mset({key: Entry(b"v") for key in ("a", "a*b", "a/b", "b", "[a]", "a\\")})
    assert sorted(everything(ours, "a")) == ["a", "a*b", "a/b", "a\\"]
    ours.clear("a", skip="a/")
    assert sorted(everything(ours)) == ["[a]", "a/b", "b"]
    ours.clear("")
    assert everything(ours) == []
    assert set(look.keys()) == {b"foreign", b"app", b"appx:key", b"app:key", b"app*:\xff"}
    ours.close()
    theirs.close()


def test_foreign_types_and_bytes_under_our_keys_are_misses(tier, look):
    look.rpush("tiercache:list", 1)
    look.set("tiercache:bytes", b"no envelope")
    tier.mset({"ours": Entry(b"v")})
    for keys in (["list"], ["bytes"], ["list", "bytes", "ours"]):
        assert values(tier.mget(keys)) == {key: b"v" for key in keys if key == "ours"}
    assert tier.counters()["corrupt"] == 1
    assert not look.exists("tiercache:bytes")
    tier.mset({"list": Entry(b"ours now")})
    assert values(tier.mget(["list"])) == {"list": b"ours now"}


def test_a_batch_of_many_lives(tier, look):
    """Whatever stood before each of them; values of no bytes, and of more than are sent at once."""
    now = time.time()
    lives = [None, HOUR, HOUR, 2 * HOUR, -1, HOUR]
    sizes = [0, 1, 100, 300_000, 6144]
    kinds = {f"key {n}": (lives[n % 6], bytes([n % 251]) * sizes[n % 5]) for n in range(303)}
    tier.mset(dict.fromkeys(kinds, Entry(b"old")))
    tier.mset({key: Entry(value, life and now + life) for key, (life, value) in kinds.items()})
    alive = {key: value for key, (life, value) in kinds.items() if life != -1}
    assert values(tier.mget([*kinds])) == alive
    assert {key.removeprefix(b"tiercache:").decode() for key in look.keys()} == {*alive}  # noqa: SIM118 - a client
    for key in alive:
        life, left = kinds[key][0], look.pttl(f"tiercache:{key}")
        assert left == -1 if life is None else left == pytest.approx(life * 1000, abs=20_000)


@pytest.fixture
def cutting(server):
    """The port of a relay to the server that cuts its first connection after 100,000 bytes."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as threads:

        def pass_on(source, target, most):
            with suppress(OSError):
                while most > 0 and (data := source.recv(65_536)):
                    target.sendall(data)
                    most -= len(data)
            for each in (source, target):
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

        def relay():
            for most in (100_000, math.inf):
                client = listening.accept()[0]
                upstream = socket.create_connection(("127.0.0.1", server.port))
                for one, other in ((client, upstream), (upstream, client)):
                    threads.submit(pass_on, one, other, most)
                opened.extend((client, upstream))

        opened = []
        listening.settimeout(5)
        relaying = threads.submit(relay)
        yield listening.getsockname()[1]
        try:
            relaying.result()  # there was a second one
        finally:
            for each in opened:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
    for each in opened:
        each.close()


@pytest.mark.parametrize("options", [{}, {"secret": "0123456789abcdef"}])
def test_a_batch_that_was_cut_off_is_sent_again_whole(server, cutting, options):
    """Its envelopes are made as they are sent."""
    tier = RedisTier(f"redis://127.0.0.1:{cutting}", deadline=10, **options)
    batch = {f"key {n}": Entry(b"%d" % n * 300) for n in range(351)}
    tier.mset(batch)
    assert values(tier.mget([*batch])) == values(batch)
    with pytest.raises(TypeError, match="stores bytes, not str"):
        tier.mset({**dict.fromkeys(batch, Entry(b"new")), "last": Entry("text")})
    assert values(tier.mget([*batch])) == values(batch)
    tier.close()


def test_a_batch_is_what_it_was_when_it_was_given(server):
    async def change_meanwhile():
        tier = RedisTier(server.url, deadline=10)
        batch = {f"key {n}": Entry(b"x" * 6144) for n in range(2000)}
        writing = asyncio.ensure_future(tier.amset(batch))
        await asyncio.sleep(0)  # it has begun
        batch.clear()
        await writing
        found = await tier.amget([f"key {n}" for n in range(2000)])
        await tier.aclose()
        return len(found)

    assert asyncio.run(change_meanwhile()) == 2000


def test_a_batch_of_no_values_that_the_server_takes(tier):
    huge = bytes(2**29 + 1)
    with pytest.raises(EntryRejected) as caught:
        tier.store.mset({"huge": (huge, None), "huge too": (huge, None)})
    assert caught.value.keys == ("huge", "huge too")


def test_values_beyond_the_servers_limit_are_rejected_and_others_kept(tier):
    with pytest.raises(EntryRejected, match="512 MiB") as caught:
        tier.store.mset({"huge": (bytes(2**29 + 1), None), "small": (b"v", None)})
    assert caught.value.keys == ("huge",)
    assert tier.store.mget(["huge", "small"]) == {"small": b"v"}


def test_big_values_and_many_keys_travel_whole(tier):
    big = {f"big {n}": Entry(bytes([n]) * 3_000_000) for n in range(4)}
    many = {f"key {n}": Entry(b"%d" % n) for n in range(5_003)}
    tier.mset(big | many)
    assert values(tier.mget([*many, *big, "absent"])) == values(big | many)
    tier.mdelete([*many, "absent"])
    assert set(everything(tier)) == set(big)


@pytest.mark.parametrize("protocol", [2, 3])
def test_empty_batches_are_nothing(server, protocol):
    tier = RedisTier(f"{server.url}?protocol={protocol}")
    assert tier.mget([]) == {}
    tier.mset({})
    tier.mdelete([])
    tier.close()


def test_another_database(server):
    first, second = RedisTier(server.url), RedisTier(server.url[:-1] + "5")
    first.mset({"key": Entry(b"0")})
    second.mset({"key": Entry(b"5")})
    assert values(first.mget(["key"])) == {"key": b"0"}
    assert values(second.mget(["key"])) == {"key": b"5"}
    second.clear("")
    first.close()
    second.close()


# -- purging --


@both_apis
def test_purge_by_age_drops_from_the_server_too(call, server, look):
    clock = FakeClock()
    tiers = [MemoryTier(clock=clock), RedisTier(server.url, deadline=10, clock=clock, secret="s" * 16)]
    with TieredCache(tiers, clock=clock) as cache:
        look.set("tiercache:a", b"somebody else's")
        look.rpush("tiercache:list", b"somebody else's")
        others = cache.view("other")
        others.set("old", b"1")
        cache.mset({f"old {number}": bytes(2000) for number in range(1500)})
        clock.advance(2)
        cache.mset({"new": b"1", "old 7": b"overwritten"})
        assert call(cache, "purge", older_than=1) == 1499
        assert sorted(cache.keys()) == ["a", "list", "new", "old 7"]
        assert cache.mget(["old 1", "old 7"]) == [None, b"overwritten"]
        assert others.get("old") == b"1"
        assert look.exists("tiercache:a", "tiercache:list") == 2
        assert call(cache, "purge", older_than=1) == 0


@both_apis
def test_what_redis_cannot_purge_or_cannot_just_now_is_told(call, server, caplog):
    memory = MemoryTier()
    with TieredCache([memory, RedisTier(server.url, deadline=10)]) as cache:
        cache.set("a", b"1")
        with TieredCache([RedisTier(server.url, deadline=10)]) as alone:
            with pytest.raises(ConfigError, match=r"purge: Redis .*older_than="):
                call(alone, "purge", idle=1e-9)
            with pytest.raises(ConfigError, match=r"purge: Redis .*older_than="):
                call(alone, "purge", older_than=1e-9, idle=1e-9)
            assert alone.get("a") == b"1"
        assert call(cache, "purge", idle=1e-9) == 1
        assert memory.size().entries == 0
        assert "redis cannot tell when an entry was last used" in caplog.text
        assert cache.get("a") == b"1"
    with (
        TieredCache([MemoryTier(), RedisTier("redis://127.0.0.1:1")]) as cache,
        pytest.raises(TierUnavailable, match="redis was not purged"),
    ):
        call(cache, "purge", older_than=1)


# -- rights --


RIGHTS = (
    "reset on >secret -@all +get +mget +set +del +unlink +pttl +hello +auth +ping +client|setinfo ~tc:app:*"
)


@pytest.fixture
def guarded():
    with running() as server:
        with server.client() as admin:
            admin.execute_command("ACL", "SETUSER", "app", *RIGHTS.split())
            admin.set("tc:other:key", b"foreign")
            admin.execute_command("ACL", "SETUSER", "default", "resetpass", ">master")
        yield server


def test_least_rights_for_purging(guarded):
    url = f"redis://app:secret@127.0.0.1:{guarded.port}"
    with TieredCache([RedisTier(url, prefix="tc:app:", deadline=10)]) as cache:
        cache.set("a", b"1")
        with redis.Redis.from_url(f"redis://:master@127.0.0.1:{guarded.port}") as admin:
            for right in ("+scan", "+getrange"):
                with pytest.raises(TierUnavailable, match=f"lacks the right \\{right}"):
                    cache.purge(older_than=1e-9)
                admin.execute_command("ACL", "SETUSER", "app", right)
        assert cache.purge(older_than=1e-9) == 1
        assert cache.get("a") is None


def test_least_rights_for_an_export_which_asks_for_lengths_where_it_may(guarded, tmp_path):
    url = f"redis://app:secret@127.0.0.1:{guarded.port}"
    with redis.Redis.from_url(f"redis://:master@127.0.0.1:{guarded.port}") as admin:
        admin.execute_command("ACL", "SETUSER", "app", "+scan")
    with TieredCache([RedisTier(url, prefix="tc:app:", deadline=10)]) as cache:
        cache.mset({"a": b"1", "b": b"2"})
        assert export_archive(cache, tmp_path / "a.tca").entries == 2
        with pytest.raises(TierUnavailable, match=r"lacks the right \+strlen"):
            cache.as_tier().lengths(["a"])


@pytest.mark.parametrize("protocol", [2, 3])
def test_least_rights_suffice(guarded, protocol):
    url = f"redis://app:secret@127.0.0.1:{guarded.port}?protocol={protocol}"
    tier = RedisTier(url, prefix="tc:app:", deadline=10)

    async def natively():
        await tier.amset({key: Entry(b"v") for key in ("c", "d")})
        await tier.amdelete(["c"])
        assert set(await tier.amget(["c", "d"])) == {"d"}
        with pytest.raises(TierUnavailable, match="lacks the right \\+scan"):
            await tier.ascan("")

    tier.mset({"a": Entry(b"1"), "b": Entry(b"2", time.time() + HOUR)})
    tier.mdelete(["a"])
    assert values(tier.mget(["a", "b"])) == {"b": b"2"}
    assert values(tier.mget(["b"])) == {"b": b"2"}
    asyncio.run(natively())
    for call in (tier.scan, tier.clear):
        with pytest.raises(TierUnavailable, match="lacks the right \\+scan") as caught:
            call("")
        assert "secret" not in str(caught.value)
    outside = RedisTier(url, prefix="tc:other:")
    for call in (outside.mget, outside.mdelete):
        with pytest.raises(TierUnavailable, match="lacks the right ~tc:other:\\*"):
            call(["key"])
    tier.close()
    outside.close()


def test_wrong_passwords_are_told_and_not_shown(guarded):
    for login, told in (
        ("app:wrong@", "it refused the user or password in the URL"),
        (":wrong@", "it refused the user or password in the URL"),
        ("", "it wants a password, and the URL has none"),
    ):
        tier = RedisTier(f"redis://{login}127.0.0.1:{guarded.port}")
        for call in (tier.mget, lambda keys, tier=tier: asyncio.run(tier.amget(keys))):
            with pytest.raises(TierUnavailable) as caught:
                call(["key"])
            assert str(caught.value).endswith(f": {told}")
            assert "wrong" not in str(caught.value)
        tier.close()


def test_a_password_that_a_sentinel_wants_is_told(guarded):
    tier = RedisTier(f"redis+sentinel://127.0.0.1:{guarded.port}/mymaster", deadline=10)
    for call in (tier.mget, lambda keys: asyncio.run(tier.amget(keys))):
        with pytest.raises(TierUnavailable, match=r"a Sentinel wants a password.* sentinel_password"):
            call(["key"])
    tier.close()


def test_a_password_that_no_server_wants_is_told(valkey):
    tier = RedisTier(valkey.url.replace("//", "//:wrong@"))
    with pytest.raises(TierUnavailable, match="the URL has a password, and the server wants none"):
        tier.mget(["key"])
    tier.close()


# -- topologies and clients --


def test_sentinel_names_the_master(valkey_sentinel):
    tier = RedisTier(valkey_sentinel.url, prefix="s:", deadline=10)
    tier.mset({"key": Entry(b"v")})
    with valkey_sentinel.master.client() as master:
        assert master.exists("s:key")
        assert master.wait(1, 10_000) == 1  # the replica has it as well, and was not asked
    assert values(tier.mget(["key"])) == {"key": b"v"}
    tier.close()


def test_sentinel_without_that_master(valkey_sentinel):
    tier = RedisTier(valkey_sentinel.url.replace("mymaster", "another"), deadline=10)
    for call in (tier.mget, lambda keys: asyncio.run(tier.amget(keys))):
        with pytest.raises(TierUnavailable, match="another: no Sentinel that answers knows a healthy master"):
            call(["key"])
    tier.close()


@pytest.fixture
def cluster(valkey_cluster):
    valkey_cluster.flush()
    return valkey_cluster


def test_a_cluster_spreads_the_keys(cluster):
    tier = RedisTier(cluster.url, deadline=10)
    entries = {f"key {n}": Entry(b"%d" % n, time.time() + HOUR) for n in range(600)}
    tier.mset(entries)
    assert values(tier.mget([*entries, "absent"])) == values(entries)
    sizes = []
    for node in cluster.nodes:
        with node.client() as client:
            sizes.append(client.dbsize())
    assert sum(sizes) == 600
    assert min(sizes) > 100
    assert sorted(everything(tier, "key 1", limit=7)) == sorted(k for k in entries if k.startswith("key 1"))
    tier.clear("key 1")
    tier.mdelete(["key 2", "absent"])
    assert len(everything(tier)) == 600 - 111 - 1
    tier.close()


def test_least_rights_for_leases(guarded):
    with redis.Redis.from_url(f"redis://default:master@127.0.0.1:{guarded.port}") as admin:
        tier = RedisTier(f"redis://app:secret@127.0.0.1:{guarded.port}", prefix="tc:app:", deadline=10)
        with pytest.raises(TierUnavailable, match=r"the user lacks the right \+eval"):
            tier.acquire(["key"], "token", 60.0)
        with TieredCache([tier], lock="shared") as cache:
            assert cache.get_or_load("key", lambda key: b"1") == b"1"  # without the lock
            assert cache.get("key") == b"1"
            admin.execute_command("ACL", "SETUSER", "app", "+eval")
            assert tier.acquire(["key"], "token", 60.0) == ["key"]
            assert tier.acquire(["key"], "another", 60.0) == []
            tier.release(["key"], "token")
            assert tier.acquire(["key"], "another", 60.0) == ["key"]


def test_least_rights_suffice_on_a_cluster(cluster):
    more = "+scan +cluster|slots +command +asking"
    for node in cluster.nodes:
        with node.client() as admin:
            admin.execute_command("ACL", "SETUSER", "app", *RIGHTS.split(), *more.split())
    tier = RedisTier(cluster.url.replace("://", "://app:secret@"), prefix="tc:app:", deadline=10)
    entries = {f"key {n}": Entry(b"v") for n in range(30)}

    async def natively():
        await tier.amset(entries)
        assert values(await tier.amget(list(entries))) == values(entries)
        await tier.aclear("")

    tier.mset(entries)
    assert values(tier.mget(list(entries))) == values(entries)
    tier.clear("")
    asyncio.run(natively())
    assert everything(tier) == []
    tier.close()


def test_a_cluster_client_follows_a_moved_slot(cluster):
    key = b"tiercache:moving"
    tier = RedisTier(cluster.url, deadline=10)
    tier.mset({"moving": Entry(b"v"), "other": Entry(b"o")})
    clients = [node.client() for node in cluster.nodes]
    ids = [client.execute_command("CLUSTER MYID") for client in clients]
    slot = clients[0].execute_command("CLUSTER KEYSLOT", key)
    [source] = [n for n, client in enumerate(clients) if slot in client_slots(client, ids[n])]
    target = (source + 1) % 3
    try:
        # On its way: the key is with the target already, the slot is still the source's (ASK).
        clients[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
        clients[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
        clients[source].execute_command("MIGRATE", "127.0.0.1", cluster.nodes[target].port, key, 0, 5000)

        async def natively():
            assert values(await tier.amget(["moving", "other"])) == {"moving": b"v", "other": b"o"}
            await tier.amset({"moving": Entry(b"async")})

        assert values(tier.mget(["moving", "other"])) == {"moving": b"v", "other": b"o"}
        asyncio.run(natively())
        assert values(tier.mget(["moving"])) == {"moving": b"async"}
        # There: everybody has heard of it but the tier (MOVED).
        for client in (clients[target], *clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
        assert values(tier.mget(["moving", "other"])) == {"moving": b"async", "other": b"o"}
        tier.mdelete(["moving"])
        assert set(tier.mget(["moving", "other"])) == {"other"}
    finally:
        cluster.flush()
        for client in (clients[source], *clients):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[source])
        clients[source].execute_command("CLUSTER BUMPEPOCH")
        for client in clients:
            client.close()
        tier.close()


def client_slots(client, node_id):
    slots = set()
    for line in client.execute_command("CLUSTER NODES").values():
        if line["node_id"] == (node_id.decode() if isinstance(node_id, bytes) else node_id):
            for first, last in (part if len(part) == 2 else (part[0], part[0]) for part in line["slots"]):
                slots |= set(range(int(first), int(last) + 1))
    return slots


def test_given_clients_stay_open(server):
    async def natively():
        native = redis.asyncio.Redis(port=server.port)
        tier = RedisTier(native, deadline=10)
        await tier.amset({"native": Entry(b"n")})
        assert values(await tier.amget(["native", "absent"])) == {"native": b"n"}
        assert (await tier.ascan("")) == (["native"], None)
        await tier.aclear("")
        await tier.aclose()
        with pytest.raises(CacheClosed):
            await tier.amget(["native"])
        assert await native.ping()
        await native.aclose()

    asyncio.run(natively())
    with redis.Redis(port=server.port, socket_timeout=7) as client:
        tier = RedisTier(client, deadline=10)
        tier.mset({"key": Entry(b"v")})
        assert values(tier.mget(["key"])) == {"key": b"v"}
        [connection] = client.connection_pool._available_connections
        assert connection._sock.gettimeout() == 7  # our deadline was for our call
        tier.close()
        assert client.ping()


def test_given_cluster_clients(cluster):
    host, port = "127.0.0.1", cluster.nodes[0].port
    entries = {f"key {n}": Entry(b"v") for n in range(50)}

    async def natively():
        native = redis.asyncio.RedisCluster(host, port)
        tier = RedisTier(client, async_client=native, deadline=10)
        assert values(await tier.amget(list(entries))) == values(entries)
        await tier.aclear("key 1")
        await tier.aclose()
        assert await native.ping()
        await native.aclose()

    with redis.RedisCluster(host, port) as client:
        tier = RedisTier(client, deadline=10)
        tier.mset(entries)
        asyncio.run(natively())
        assert len(everything(tier)) == 50 - 11
        tier.close()
        assert client.ping()


def test_a_given_asyncio_client_serves_its_own_loop_alone(server):
    native = redis.asyncio.Redis(port=server.port)
    tier = RedisTier(native, deadline=10)

    async def first():
        await tier.amset({"key": Entry(b"v")})
        await native.aclose()

    asyncio.run(first())
    with pytest.raises(TierUnavailable, match="belongs to another event loop; give the tier a URL"):
        asyncio.run(tier.amget(["key"]))


# -- closing --


def test_closed_is_closed(server):
    tier = RedisTier(server.url)
    tier.mset({"key": Entry(b"v")})
    tier.close()
    tier.close()
    asyncio.run(tier.aclose())
    for call in (
        lambda: tier.mget(["key"]),
        lambda: tier.mset({}),
        lambda: tier.mdelete([]),
        lambda: tier.scan(""),
    ):
        with pytest.raises(CacheClosed):
            call()
    with pytest.raises(CacheClosed):
        asyncio.run(tier.amget(["key"]))


def test_closing_gives_the_connections_back(server, look):
    def connected():
        return sum(1 for client in look.client_list() if client["name"] == "closing-test")

    async def natively(tier, close):
        await asyncio.gather(*(tier.amget(["key"]) for _ in range(5)))
        assert connected() > 1
        if close:
            await tier.aclose()
        while close and connected():  # noqa: ASYNC110 - the server hears of it a little later, and tells nobody
            await asyncio.sleep(0.01)

    for close in (True, False):
        tier = RedisTier(f"{server.url}?client_name=closing-test", deadline=10)
        tier.mget(["key"])
        asyncio.run(natively(tier, close))
        tier.close()
        while connected():  # the server hears of it a little later
            time.sleep(0.01)
