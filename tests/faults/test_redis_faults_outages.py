"""Redis fails: reads are misses within the deadline, then cost nothing, then find everything again."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faults.scenarios_network import (
    KEYS,
    PROXY_MODES,
    Figures,
    Reader,
    in_mode,
    patiently,
    redis_behind_proxy,
    redis_cluster_node_lost,
    redis_sentinel_failover,
    redis_stopped,
    redis_tier,
    seed_redis,
)
from faults_table import Told
from servers.valkey import Valkey, free_port, running

from tiercache import Entry, MemoryTier, RedisTier, TieredCache, TierTimeout, TierUnavailable
from tiercache.testing import BlackHole, Delay, FaultyProxy, HalfOpen, Pass, Truncate

both = pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
#: The figure aimed at is 0.4 s; what takes longer than this waits for something else than the deadline.
BOUND = 4.0
Options = dict[str, Any]


def hold(figures: Figures, told: Told) -> None:
    """What every outage must come to."""
    told(figures.fault, str(figures))
    assert figures.wrong == 0
    assert figures.first_read < BOUND
    assert figures.failures >= 3  # each was counted; then the breaker opened
    assert figures.skipped >= 30  # reads that asked nobody


@both
def test_a_stopped_server_is_a_miss_and_then_costs_nothing(
    awaited: bool, breaker: Options, told: Told
) -> None:
    hold(redis_stopped(awaited=awaited, **breaker), told)


@pytest.mark.parametrize(
    ("mode", "awaited"), [*((mode, False) for mode in PROXY_MODES), ("refused", True), ("black hole", True)]
)
def test_whatever_the_network_does_is_a_miss_and_then_costs_nothing(
    mode: str, awaited: bool, valkey: Valkey, breaker: Options, told: Told
) -> None:
    hold(redis_behind_proxy(mode, valkey, awaited=awaited, **breaker), told)


@pytest.fixture
def proxy(valkey: Valkey) -> Iterator[FaultyProxy]:
    with FaultyProxy(("127.0.0.1", valkey.port)) as proxy:
        yield proxy


@both
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "new"])
@pytest.mark.parametrize("mode", PROXY_MODES)
def test_one_failure_is_one_miss_and_the_next_read_is_right(
    mode: str, connected: bool, awaited: bool, valkey: Valkey, proxy: FaultyProxy
) -> None:
    seed_redis(valkey.url)
    stalls = isinstance(PROXY_MODES[mode], HalfOpen | BlackHole | Delay)
    # Where it is not the deadline that ends the read, a busy machine shall not run into it either.
    tier = redis_tier(f"redis://127.0.0.1:{proxy.port}", **{} if stalls else {"deadline": 60})
    with Reader(TieredCache([MemoryTier(), tier]), awaited=awaited) as reader:
        before = reader.begin(KEYS[0]) if connected else 0
        with in_mode(proxy, PROXY_MODES[mode]):
            seconds, found = reader.read(*KEYS[1:200])
            assert found == 0
            assert seconds < BOUND
            assert reader.failures == before + 1
        if stalls:
            reader.read_all()
        else:
            assert reader.read(*KEYS)[1] == len(KEYS)
            assert reader.failures == before + 1
        assert reader.wrong == 0


@both
@pytest.mark.parametrize("after", [0, 1000])
def test_a_reply_that_drips_ends_with_the_deadline(after: int, awaited: bool, proxy: FaultyProxy) -> None:
    """Each byte comes in time, and all of them would take ten minutes."""
    tier = redis_tier(f"redis://127.0.0.1:{proxy.port}", breaker_failures=None)
    entries = {key: Entry(b"v" * 1000) for key in KEYS}
    patient = RedisTier(f"redis://127.0.0.1:{proxy.port}", deadline=30)
    patient.mset(entries)
    with asyncio.Runner() as runner:
        if after:
            assert patiently(lambda: runner.run(tier.amget(["absent"]))) == {}
            assert patiently(lambda: tier.mget(["absent"])) == {}
        proxy.mode = Delay(0.001, piece=1)
        with pytest.raises(TierTimeout, match=r"within 0\.25 s"):
            runner.run(tier.amget(list(KEYS))) if awaited else tier.mget(list(KEYS))
        proxy.mode = Pass()
        found = patiently(lambda: runner.run(tier.amget(list(KEYS))) if awaited else tier.mget(list(KEYS)))
        assert len(found) == len(KEYS)
        runner.run(tier.aclose())
    patient.close()


@both
def test_a_server_killed_in_the_middle_of_an_mget(awaited: bool) -> None:
    port = free_port()
    with FaultyProxy(("127.0.0.1", port)) as proxy:
        # A deadline that does not matter: here the server's end is what ends the read.
        tier = redis_tier(f"redis://127.0.0.1:{proxy.port}", deadline=60)
        with Reader(TieredCache([MemoryTier(), tier]), awaited=awaited) as reader:
            answers: list[int] = []
            with running(port=port) as server:
                seed_redis(server.url)
                assert reader.read(KEYS[0])[1] == 1
                proxy.mode = HalfOpen(after=5000)
                caller = threading.Thread(target=lambda: answers.append(reader.read(*KEYS[1:])[1]))
                caller.start()
                assert proxy.bitten.wait(60)
                os.kill(server.pid, signal.SIGKILL)
                proxy.mode = Truncate(after=0)  # what the dead server had sent and was not read is lost
                caller.join(60)
            assert answers == [0]
            assert reader.failures == 1
            proxy.mode = Pass()
            with running(port=port) as server:
                seed_redis(server.url)
                assert reader.read(*KEYS)[1] == len(KEYS)
            assert reader.failures == 1
            assert reader.wrong == 0


def test_cancelled_and_timed_out_calls_cross_no_replies(valkey: Valkey, proxy: FaultyProxy) -> None:
    """300 reads on a line that stalls now and then; those that end early leave nothing to others."""
    seed_redis(valkey.url)
    tier = redis_tier(f"redis://127.0.0.1:{proxy.port}", breaker_failures=None)
    told = {"found": 0, "missed": 0, "cancelled": 0}

    async def read(cache: TieredCache[bytes], number: int) -> None:
        keys = [KEYS[(number * 7 + step) % len(KEYS)] for step in range(20)]
        values = await cache.amget(keys)
        for key, value in zip(keys, values, strict=True):
            assert value is None or value.startswith(f"the value of {key} ".encode())
        told["found" if None not in values else "missed"] += 1

    async def main() -> None:
        async with TieredCache([tier]) as cache:
            for turn in range(30):
                proxy.mode = HalfOpen(after=3000) if turn % 5 == 0 else Pass()
                tasks = [asyncio.create_task(read(cache, turn * 10 + number)) for number in range(10)]
                for _ in range(turn % 12):
                    await asyncio.sleep(0)
                for task in tasks[:3]:
                    told["cancelled"] += task.cancel()
                for result in await asyncio.gather(*tasks, return_exceptions=True):
                    assert result is None or isinstance(result, asyncio.CancelledError), result
            proxy.mode = Pass()

    asyncio.run(main())
    assert told["found"] > 20
    assert told["missed"] > 20
    assert told["cancelled"] > 50


def test_threads_cross_no_replies_when_calls_are_cut_off(valkey: Valkey, proxy: FaultyProxy) -> None:
    seed_redis(valkey.url)
    tier = redis_tier(f"redis://127.0.0.1:{proxy.port}", breaker_failures=None, deadline=0.1)
    wrong: list[object] = []
    found = []

    def work(number: int) -> None:
        for turn in range(15):
            keys = [KEYS[(number * 31 + turn * 7 + step) % len(KEYS)] for step in range(20)]
            try:
                entries = tier.mget(keys)
            except (TierTimeout, TierUnavailable):
                continue
            found.append(len(entries))
            wrong.extend(
                (key, entry)
                for key, entry in entries.items()
                if key not in keys or not entry.value.startswith(f"the value of {key} ".encode())
            )

    # The tier of a chain stores under folded keys; this one reads by itself.
    direct = RedisTier(valkey.url, deadline=30)
    direct.mset({key: Entry(f"the value of {key} ".encode() * 20) for key in KEYS})
    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for mode in (HalfOpen(after=3000), Pass()):
            proxy.mode = mode
            threads[0].join(0.05)
    for thread in threads:
        thread.join()
    proxy.mode = Pass()
    assert wrong == []
    assert len(direct.mget(list(KEYS))) == len(KEYS)
    tier.close()
    direct.close()


def hold_lost(figures: Figures, told: Told) -> None:
    told(figures.fault, str(figures))
    assert figures.wrong == 0
    assert figures.first_read < BOUND  # the longest of all, in the fail-over
    assert figures.failures >= 1


@both
def test_a_sentinel_fails_over(awaited: bool, breaker: Options, told: Told) -> None:
    hold_lost(redis_sentinel_failover(awaited=awaited, **breaker), told)


@pytest.mark.long
def test_a_cluster_loses_a_node(breaker: Options, told: Told) -> None:
    hold_lost(redis_cluster_node_lost(**breaker), told)


@pytest.mark.long
@both
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("lose", [redis_sentinel_failover, redis_cluster_node_lost])
def test_a_primary_dies_or_hangs(
    lose: Callable[..., Figures], how: signal.Signals, awaited: bool, told: Told
) -> None:
    hold_lost(lose(awaited=awaited, how=how), told)
