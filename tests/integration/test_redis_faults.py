"""`RedisTier` when things go wrong: servers that hang, die or are full, tasks that are cancelled, forks."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress

import pytest
import pythons
import redis
from apis import both_apis
from faults.scenarios_network import patiently
from servers.valkey import free_port, running

from tiercache import TieredCache
from tiercache.entry import Entry
from tiercache.envelope import open_envelopes
from tiercache.errors import TierError, TierFull, TierTimeout, TierUnavailable, WriteError
from tiercache.tiers.redis import RedisTier
from tiercache.tiers.redis._commands import Request, exchange, pack
from tiercache.tiers.redis._line import Line
from tiercache.tiers.redis._wires import BlockingWire, drive


def values(found):
    return {key: entry.value for key, entry in found.items()}


@contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def run(*arguments):
    command = [sys.executable, *arguments]
    return pythons.run(command, capture_output=True, text=True, check=False, timeout=60)


def expect_timeout(call, deadline):
    """``call`` ends by the deadline. Generously: this is about 0.2 s against a minute, not about speed."""
    began = time.monotonic()
    with pytest.raises(TierTimeout, match=f"within {deadline:g} s"):
        call()
    assert time.monotonic() - began < 10 * deadline


@pytest.mark.parametrize("connected", [True, False])
def test_a_hanging_server_costs_the_deadline(connected):
    keys = [f"key {n}" for n in range(1000)]
    entries = {key: Entry(key.encode()) for key in keys}
    with running() as server:
        tier = RedisTier(server.url, deadline=0.2)

        async def natively():
            if connected:
                await tier.amget(keys)
            with stopped(server.pid):
                for call in (lambda: tier.amget(keys), lambda: tier.amset(entries), lambda: tier.ascan("")):
                    with pytest.raises(TierTimeout):
                        await asyncio.wait_for(call(), 2)
            await tier.amset({"key 2": Entry(b"async")})
            assert values(await tier.amget(keys))["key 2"] == b"async"

        if connected:
            tier.mset(entries)
        with stopped(server.pid):
            expect_timeout(lambda: tier.mget(keys), 0.2)
            expect_timeout(lambda: tier.mset(entries), 0.2)
            expect_timeout(lambda: tier.mdelete(keys), 0.2)
            expect_timeout(lambda: tier.clear(""), 0.2)
        tier.mset({"key 1": Entry(b"well again")})
        assert values(tier.mget(keys))["key 1"] == b"well again"
        asyncio.run(natively())
        tier.close()


def test_the_deadline_rules_over_a_given_clients_time_outs():
    with running() as server, redis.Redis(port=server.port, socket_timeout=8) as client:
        tier = RedisTier(client, deadline=0.2)
        tier.mset({"key": Entry(b"v")})
        with stopped(server.pid):
            expect_timeout(lambda: tier.mget(["key"]), 0.2)
        assert values(tier.mget(["key"])) == {"key": b"v"}
        tier.close()


def test_a_hanging_node_of_a_cluster_costs_the_deadline(valkey_cluster):
    valkey_cluster.flush()
    tier = RedisTier(valkey_cluster.url, deadline=0.4)
    entries = {f"key {n}": Entry(b"v") for n in range(50)}

    async def natively():
        with stopped(valkey_cluster.nodes[1].pid), pytest.raises(TierTimeout):
            await asyncio.wait_for(tier.amget(list(entries)), 4)

    patiently(lambda: tier.mset(entries))
    with stopped(valkey_cluster.nodes[1].pid):
        expect_timeout(lambda: tier.mget(list(entries)), 0.4)
        expect_timeout(lambda: tier.mset(entries), 0.4)
    assert len(patiently(lambda: tier.mget(list(entries)))) == 50
    with asyncio.Runner() as runner:
        patiently(lambda: runner.run(tier.amset(entries)))
        runner.run(natively())
        assert len(patiently(lambda: runner.run(tier.amget(list(entries))))) == 50
    tier.close()


def test_a_cluster_is_found_although_its_first_node_hangs(valkey_cluster):
    hanging, well = valkey_cluster.nodes[:2]
    key = key_of(well)
    with stopped(hanging.pid):
        for _ in range(3):  # the nodes are asked in any order
            # Each question has a third of it, which is long for a busy machine too.
            tier = RedisTier(f"redis+cluster://127.0.0.1:{hanging.port},127.0.0.1:{well.port}", deadline=2)
            assert tier.mget([key]) == {}
            assert asyncio.run(tier.amget([key])) == {}
            tier.close()


def asked_for_topology(cluster):
    """How often any client did."""
    total = 0
    for node in cluster.nodes:
        with node.client() as client:
            total += client.info("commandstats").get("cmdstat_cluster|slots", {"calls": 0})["calls"]
    return total


def test_tasks_that_begin_together_ask_for_the_topology_once(valkey_cluster):
    async def together():
        await asyncio.gather(*(tier.amget([f"{n}"]) for n in range(20)))
        await tier.aclose()

    before = asked_for_topology(valkey_cluster)
    tier = RedisTier(valkey_cluster.url, deadline=10)
    asyncio.run(together())
    assert asked_for_topology(valkey_cluster) == before + 1
    tier.close()


@pytest.mark.parametrize("blocking", [False, True], ids=["tasks", "threads"])
def test_who_fails_with_a_topology_of_before_does_not_ask_again(valkey_cluster, blocking):
    # Before redis-py 7.4 who asks cuts the others' connections; if each of them asked, it would never end.
    tier = RedisTier(valkey_cluster.url, deadline=10)
    nodes = valkey_cluster.nodes[:2]
    keys = [key_of(node) for node in nodes]

    async def until(reached):
        while not reached():  # noqa: ASYNC110 - a server tells nobody
            await asyncio.sleep(0.01)

    def waits(client):
        return [one["id"] for one in client.client_list() if one["cmd"] == "set"]

    def store(key):
        entries = {key: Entry(b"v")}
        return asyncio.to_thread(tier.mset, entries) if blocking else tier.amset(entries)

    async def one_after_the_other():
        await tier.amget(keys)
        tier.mget(keys)
        before = asked_for_topology(valkey_cluster)
        calls = [asyncio.create_task(store(key)) for key in keys]
        await until(lambda: all(map(waits, clients)))
        (first,), (second,) = map(waits, clients)
        clients[0].client_kill_filter(_id=first)
        await until(lambda: asked_for_topology(valkey_cluster) > before)
        await until(lambda: waits(clients[0]))  # with what it learnt
        clients[1].client_kill_filter(_id=second)
        await until(lambda: waits(clients[1]) not in ([], [second]))
        assert asked_for_topology(valkey_cluster) == before + 1
        for client in clients:
            client.client_unpause()
        await asyncio.gather(*calls)
        await tier.aclose()

    with ExitStack() as stack:
        clients = [stack.enter_context(node.client()) for node in nodes]
        for client in clients:
            client.client_pause(20_000, all=False)
            stack.callback(client.client_unpause)
        asyncio.run(one_after_the_other())
    tier.close()


def key_of(node):
    """A key whose slot is the node's."""
    with node.client() as client:
        for n in range(1000):
            try:
                client.get(f"tiercache:{n}")
            except redis.exceptions.MovedError:
                continue
            return str(n)
    raise AssertionError("no key found")


def test_pooled_connections_that_died_fail_no_call():
    port = free_port()
    tier = RedisTier(f"redis://127.0.0.1:{port}", deadline=10)

    async def natively():
        with running(port=port):
            await asyncio.gather(*(tier.amset({f"{n}": Entry(b"v")}) for n in range(10)))
        with pytest.raises(TierUnavailable, match=r"[Cc]onnect"):
            await tier.amget(["0"])
        with running(port=port):
            assert await tier.amget(["0"]) == {}
            await asyncio.gather(*(tier.amset({f"{n}": Entry(b"v")}) for n in range(10)))

    with running(port=port):
        tier.mset({"key": Entry(b"v")})
    with pytest.raises(TierUnavailable, match=r"[Cc]onnect"):
        tier.mget(["key"])
    with running(port=port):
        assert tier.mget(["key"]) == {}
        tier.mset({"key": Entry(b"v")})
    asyncio.run(natively())
    tier.close()


@pytest.mark.parametrize("topology", ["single", "cluster"])
def test_connections_cut_by_the_server_fail_no_call(valkey, valkey_cluster, topology):
    nodes = [valkey] if topology == "single" else valkey_cluster.nodes
    tier = RedisTier(valkey.url if topology == "single" else valkey_cluster.url, deadline=10)
    entries = {f"key {n}": Entry(b"v") for n in range(100)}

    def cut():
        for node in nodes:
            with node.client() as client:
                client.client_kill_filter(_type="normal", skipme=True)

    async def natively():
        await asyncio.gather(*(tier.amset(entries) for _ in range(5)))
        cut()  # between two steps of the loop, which has not seen the ends yet
        assert len(await tier.amget(list(entries))) == 100
        cut()
        await asyncio.sleep(0)
        await tier.amset(entries)

    tier.mset(entries)
    cut()
    assert len(tier.mget(list(entries))) == 100
    cut()
    tier.mset(entries)
    asyncio.run(natively())
    tier.close()


def test_an_unreachable_server_is_unavailable_at_every_call(tmp_path):
    port = free_port()
    for url in (
        f"redis://:secret@127.0.0.1:{port}",
        f"unix://{tmp_path}/no-such-socket",
        f"redis+sentinel://127.0.0.1:{port}/m",
        f"redis+cluster://127.0.0.1:{port}",
    ):
        tier = RedisTier(url, deadline=10)
        calls = (lambda: tier.mget(["k"]), lambda: tier.mset({"k": Entry(b"v")}), lambda: tier.mdelete(["k"]))  # noqa: B023 - called at once
        for call in (*calls, lambda: tier.scan(""), lambda: asyncio.run(tier.amget(["k"]))):  # noqa: B023 - the same
            with pytest.raises(TierUnavailable) as caught:
                call()
            assert "secret" not in str(caught.value)
        tier.close()


@both_apis
def test_a_chain_goes_on_reading_from_a_full_server(call):
    with running("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as server:
        cache = TieredCache([RedisTier(server.url, deadline=10)])
        call(cache, "set", "held", b"value")
        call(cache, "set", "overwritten", b"old")
        other = RedisTier(server.url, deadline=10)
        with pytest.raises(TierFull):
            other.mset({f"big {n}": Entry(bytes(100_000)) for n in range(100)})
        other.close()
        for number in range(5):
            key = f"new {number}" if number else "overwritten"
            with pytest.raises(WriteError, match="out of memory"):
                call(cache, "set", key, bytes(1_000_000))
        assert call(cache, "get", "held") == b"value", "its circuit is open for look-ups too"
        assert call(cache, "get", "overwritten") is None
        assert call(cache, "delete", "held").ok
        assert call(cache, "get", "held") is None
        assert cache.stats().tiers[0].skipped == 0
        cache.close()


def test_a_full_server_is_unavailable_for_writes_alone():
    with running("--maxmemory", "4mb", "--maxmemory-policy", "noeviction") as server:
        tier = RedisTier(server.url, deadline=10)
        tier.mset({"small": Entry(b"v")})
        with pytest.raises(TierFull, match="out of memory"):
            tier.mset({f"big {n}": Entry(bytes(100_000)) for n in range(100)})
        assert values(tier.mget(["small"])) == {"small": b"v"}
        tier.mdelete(["small"])
        assert tier.mget(["small"]) == {}
        tier.close()


def test_a_replica_refuses_writes(valkey_sentinel):
    tier = RedisTier(valkey_sentinel.replica.url, deadline=10)
    assert tier.mget(["key"]) == {}
    with pytest.raises(TierUnavailable, match="it is a replica, and takes no writes"):
        tier.mset({"key": Entry(b"v")})
    tier.close()


@pytest.mark.parametrize("topology", ["single", "cluster"])
def test_cancelled_tasks_leave_no_replies_behind(valkey, valkey_cluster, topology):
    tier = RedisTier(valkey.url if topology == "single" else valkey_cluster.url, deadline=10)
    names = [f"key {n}" for n in range(300)]
    rng = random.Random(7)

    async def read(name, turns):
        found = await tier.amget([name, f"{name} too"])
        assert values(found) == {name: name.encode(), f"{name} too": name.encode()}
        return turns

    async def natively():
        await tier.amset({k: Entry(n.encode()) for n in names for k in (n, f"{n} too")})
        cancelled = 0
        for name in names:
            others = rng.sample(names, 3)
            tasks = [asyncio.create_task(read(other, 0)) for other in (name, *others)]
            for _ in range(rng.randrange(12)):
                await asyncio.sleep(0)
            tasks[0].cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += isinstance(results[0], asyncio.CancelledError)
            assert results[1:] == [0, 0, 0]
        assert cancelled > 30
        assert await asyncio.gather(*(read(name, 1) for name in names)) == [1] * 300
        await tier.aclose()

    asyncio.run(natively())


def test_a_loop_that_ends_leaves_nothing_behind(valkey):
    program = f"""
import asyncio, gc
from tiercache import TieredCache
from tiercache.entry import Entry
from tiercache.tiers.redis import RedisTier
tier = RedisTier({valkey.url!r}, prefix="loops:", deadline=10)
async def use(n):
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no news
    await asyncio.gather(*(tier.amset({{f"{{n}}/{{m}}": Entry(b"v")}}) for m in range(5)))
    assert len(await tier.amget([f"{{n}}/{{m}}" for m in range(5)])) == 5
for n in range(3):
    asyncio.run(use(n))
    gc.collect()
assert not tier.store._native._wires
tier.clear("")
print("done")
"""
    done = pythons.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_one_tier_serves_threads_and_loops_at_once(valkey):
    tier = RedisTier(f"{valkey.url}?max_connections=3", prefix="many:", deadline=20)

    def blocking(number):
        for turn in range(30):
            key = f"{number}/{turn}"
            tier.mset({key: Entry(key.encode())})
            assert values(tier.mget([key, "absent"])) == {key: key.encode()}

    async def native(number):
        async def one(turn):
            key = f"{number}/{turn}"
            await tier.amset({key: Entry(key.encode())})
            assert values(await tier.amget([key, "absent"])) == {key: key.encode()}

        await asyncio.gather(*(one(turn) for turn in range(60)))

    def work(number):
        blocking(number) if number % 3 else asyncio.run(native(number))

    with ThreadPoolExecutor(9) as threads:
        for job in [threads.submit(work, number) for number in range(9)]:
            job.result(60)
    assert len(tier.store._blocking._wire.source._available_connections) <= 3
    tier.clear("")
    tier.close()


def test_calls_wait_for_a_connection_no_longer_than_their_deadline(valkey):
    tier = RedisTier(f"{valkey.url}?max_connections=1", deadline=0.1)
    tier.mget(["key"])
    turns = tier.store._blocking._wire._turns
    turns.acquire()  # as a slow call of another thread would
    expect_timeout(lambda: tier.mget(["key"]), 0.1)
    turns.release()
    assert tier.mget(["key"]) == {}
    tier.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("topology", ["single", "cluster"])
def test_a_forked_child_has_connections_of_its_own(valkey, valkey_cluster, topology):
    """The child is forked from a fresh process: pytest's own threads are no business of this test."""
    url = (valkey.url if topology == "single" else valkey_cluster.url) + "?max_connections=1"
    program = f"""
import asyncio, os, threading
from tiercache import TieredCache
from tiercache.entry import Entry
from tiercache.tiers.redis import RedisTier
tier = RedisTier({url!r}, prefix="fork:", deadline=10)
names = [f"key {{n}}" for n in range(50)]
def check(who, turns):
    for _ in range(turns):
        tier.mset({{f"{{who}} {{name}}": Entry(who.encode()) for name in names}})
        found = tier.mget([f"{{who}} {{name}}" for name in names])
        assert len(found) == 50 and {{entry.value for entry in found.values()}} == {{who.encode()}}, who
async def natively(who):
    await tier.amset({{who: Entry(who.encode())}})
    assert (await tier.amget([who]))[who].value == who.encode()
    child = os.fork() if who == "parent loop" else None
    if child == 0:
        # A child of a running loop: the loop is the parent's, blocking calls and new loops are ours.
        status = 1
        try:
            check("child of a loop", 5)
            thread = threading.Thread(target=lambda: asyncio.run(natively("thread of a child")))
            thread.start()
            thread.join()
            status = 0
        finally:
            os._exit(status)
    if child:
        await asyncio.to_thread(check, "parent of a loop's child", 5)
        assert os.waitpid(child, 0)[1] == 0
        assert (await tier.amget([who]))[who].value == who.encode()
check("before", 1)
lock, turns = tier.store._blocking._lock, tier.store._blocking._wire._turns
lock.acquire()  # as a thread that connects at this moment would
turns.acquire()  # as a thread in the middle of a call would: there is but one turn
child = os.fork()
if child == 0:
    status = 1
    try:
        check("child", 20)
        asyncio.run(natively("child loop"))
        tier.close()
        status = 0
    finally:
        os._exit(status)
lock.release()
turns.release()
check("parent", 20)
assert os.waitpid(child, 0)[1] == 0
check("parent again", 1)
asyncio.run(natively("parent loop"))
tier.clear("")
tier.close()
print("done")
"""
    done = run("-c", program)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_every_error_is_one_of_ours():
    """Whatever a server answers."""
    for answer in (b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"-ERR no 'k'\r\n", b"garbage\r\n", b""):
        with babbler(answer) as port:
            tier = RedisTier(f"redis://127.0.0.1:{port}", deadline=10)
            for call in (lambda: tier.mget(["one", "two"]), lambda: tier.scan("")):  # noqa: B023 - called at once
                with pytest.raises(TierUnavailable) as caught:
                    call()
                assert "'k'" not in str(caught.value)  # it may quote keys and values
            tier.close()


@pytest.mark.parametrize(
    ("scheme", "rest", "reason"),
    [
        ("redis", "/99", "it has no database of that number"),
        ("redis+cluster", "", "it is not in cluster mode; write redis://"),
        ("redis+sentinel", "/m", "it does not know the command SENTINEL"),
    ],
)
def test_a_url_of_another_kind_of_server_is_told_apart(valkey, scheme, rest, reason):
    url = f"{scheme}://127.0.0.1:{valkey.port}{rest}"
    assert told(url) == [f"{url}: {reason}"] * 2


def test_a_node_of_a_cluster_is_told_apart(valkey_cluster):
    port = valkey_cluster.nodes[0].port
    url = f"redis://127.0.0.1:{port}/0"
    text = f"{url}: it is a node of a cluster, and the key is another's; a cluster's URL is redis+cluster://"
    assert told(url, "one", "two") == [text] * 2
    keys = [f"key {n}" for n in range(30)]  # of all nodes
    tier = RedisTier(url, deadline=5)
    said = set()
    for key in keys:
        try:
            tier.mget([key])
        except TierUnavailable as error:
            said.add(str(error))
    assert said == {text}
    tier.close()


def test_tls_with_a_server_that_speaks_none_is_hinted_at_until_it_answers(valkey):
    url = f"rediss://127.0.0.1:{valkey.port}"
    text = f"no answer from {url} within 0.2 s; it never answered this tier: does its port speak TLS?"
    assert told(url, deadline=0.2) == [text] * 2
    with running() as server:
        tier = RedisTier(server.url, deadline=0.2)
        tier.store._described = tier.store._described.replace("redis:", "rediss:")
        tier.mget(["key"])
        with stopped(server.pid), pytest.raises(TierTimeout, match=r"within 0\.2 s$"):
            tier.mget(["key"])
        tier.close()


def told(url, *keys, deadline=5):
    """What a look-up through a tier of ``url`` raises, by a blocking call and by its twin."""
    keys = list(keys) or ["key"]

    async def natively():
        tier = RedisTier(url, deadline=deadline)
        with pytest.raises(TierError) as caught:
            await tier.amget(keys)
        await tier.aclose()
        return str(caught.value)

    tier = RedisTier(url, deadline=deadline)
    with pytest.raises(TierError) as caught:
        tier.mget(keys)
    tier.close()
    return [str(caught.value), asyncio.run(natively())]


def test_what_a_server_says_unasked_answers_nobody():
    """Whether it comes with the reply before it or after that."""
    for more in (b"$5\r\nwrong\r\n", b""):
        with babbler(b"$-1\r\n" + more, b"$-1\r\n$5\r\nwrong\r\n", b"$-1\r\n") as port:
            tier = RedisTier(f"redis://127.0.0.1:{port}", deadline=10)
            assert [tier.store.mget([key]) for key in ("one", "two", "three")] == [{}, {}, {}]
            tier.close()


def test_who_is_interrupted_while_being_interrupted_leaves_no_reply_behind(monkeypatch):
    """The first time while it waits for a reply, the second before the connection is cut."""
    with running() as server:
        tier = RedisTier(server.url, deadline=20)
        tier.mset({key: Entry(key.encode()) for key in ("slow", "other")})
        found = []
        with monkeypatch.context() as patch, stopped(server.pid):
            for place, verb in ((Line, "receive"), (BlockingWire, "drop")):
                patch.setattr(place, verb, interrupt)
            with pytest.raises(KeyboardInterrupt):
                tier.store.mget(["slow"])
            patch.undo()
            asking = threading.Thread(target=lambda: found.append(tier.store.mget(["other"])))
            asking.start()
            asking.join(0.2)  # by then it has looked whether the connection is idle, and it was
        asking.join(20)
        assert [open_envelopes(blobs.items(), 0.0).entries["other"].value for blobs in found] == [b"other"]
        tier.close()


def interrupt(*_):
    raise KeyboardInterrupt


@contextmanager
def babbler(*answers):
    """A server that answers a client's greetings as it should, and ``answers`` to what comes after them."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # shut down
                return
            with connection, suppress(OSError):
                for said in (b"+OK\r\n", b"+OK\r\n", *answers):
                    connection.recv(65536)
                    connection.sendall(said)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@pytest.mark.parametrize("topology", ["single", "cluster"])
def test_a_call_that_ends_early_leaves_no_replies_behind(valkey, valkey_cluster, topology):
    tier = RedisTier(valkey.url if topology == "single" else valkey_cluster.url, prefix="early:", deadline=10)
    tier.mset({"one": Entry(b"1"), "two": Entry(b"2")})

    async def interrupted(wire, until, _last):
        def requests():
            yield Request(wire.lane(b"early:one"), pack((b"GET", b"early:one")), 1)
            raise KeyboardInterrupt  # the reply is on its way, and nobody reads it

        await exchange(wire, requests(), until)

    async def natively():
        assert values(await tier.amget(["one"])) == {"one": b"1"}
        with pytest.raises(KeyboardInterrupt):
            await tier.store._call(tier.store._native, interrupted)
        for _ in range(3):
            assert values(await tier.amget(["two"])) == {"two": b"2"}

    with pytest.raises(KeyboardInterrupt):
        drive(tier.store._call(tier.store._blocking, interrupted))
    for _ in range(3):
        assert values(tier.mget(["two"])) == {"two": b"2"}
    asyncio.run(natively())
    tier.close()
