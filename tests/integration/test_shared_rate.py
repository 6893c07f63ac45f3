"""A rate that processes share through a real server, and what becomes of it when that is ill."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from absent import said_without
from servers.valkey import free_port, running
from waiting import auntil

from tiercache import ConfigError, MemoryTier, TieredCache
from tiercache._loading.rate import Rate
from tiercache._loading.shared_rate import SharedWindows
from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache.testing import FakeClock

WORKER = Path(__file__).parent.parent / "rate_worker.py"


def most_in(times, period):
    """The most of ``times`` in any stretch of ``period``."""
    return max(sum(at <= other < at + period for other in times) for at in times)


@pytest.mark.parametrize(("rate", "period", "most"), [("20/s", 1.0, 20), ("1000/s, 5 tokens/1s", 1.0, 5)])
def test_four_processes_never_exceed_it(valkey, rate, period, most):
    loads = 20 if most == 20 else 3
    workers = [
        subprocess.Popen(
            [sys.executable, WORKER, valkey.url, rate, str(loads), "2"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.stdin.write("go\n")
        worker.stdin.flush()
    begun = [float(word) for worker in workers for word in worker.communicate(timeout=60)[0].split()]
    assert len(begun) == 4 * loads
    assert most_in(begun, period) <= most
    # A key is one token.
    assert max(begun) - min(begun) >= (3 * period if most == 20 else 2 * period)


def test_threads_and_tasks_share_it_with_other_caches(valkey):
    one, two = (Rate("3/h", shared=valkey.url, name="n") for _ in range(2))
    clock = FakeClock()
    drive(one.take(BLOCKING, clock, 0))
    asyncio.run(two.take(NATIVE, clock, 0))
    drive(two.take(BLOCKING, clock, 0))
    windows = SharedWindows(valkey.url, "n", one.limits)
    assert 3590 < windows.seconds({"requests": 1}, set()) < 3640
    assert SharedWindows(valkey.url, "another", one.limits).seconds({"requests": 1}, set()) == 0


def test_who_does_not_wait_takes_all_that_he_needs_or_nothing(valkey, caplog):
    rate, clock = Rate("2/h, 100 tokens/h", shared=valkey.url, name="n", count_tokens=len), FakeClock()

    def take(runtime, tokens):
        taking = rate.take_now(runtime, clock, tokens)
        return drive(taking) if runtime.blocking else asyncio.run(taking)

    assert take(BLOCKING, 60)
    assert not take(NATIVE, 60)
    assert not take(BLOCKING, 41)
    assert take(NATIVE, 40)
    assert not take(BLOCKING, 0)
    assert not caplog.records


def test_who_does_not_wait_is_told_by_the_process_where_the_server_is_ill(caplog):
    rate = Rate("1/h", shared=f"redis://127.0.0.1:{free_port()}", name="n")
    clock = FakeClock()
    assert drive(rate.take_now(BLOCKING, clock, 0))
    assert not drive(rate.take_now(BLOCKING, clock, 0))
    assert caplog.records


def test_few_of_a_process_ask_at_once_however_many_wait(valkey, caplog):
    rate, clock = Rate("5/h", shared=valkey.url, name="n"), FakeClock()
    lock, asking, most = threading.Lock(), [], []
    ask = rate._shared.seconds

    def asked(amounts, taken):
        with lock:
            asking.append(1)
            most.append(len(asking))
        try:
            return ask(amounts, taken)
        finally:
            with lock:
                asking.pop()

    rate._shared.seconds = asked

    async def wait():
        tasks = [asyncio.create_task(rate.take(NATIVE, clock, 0)) for _ in range(300)]
        await auntil(lambda: sum(task.done() for task in tasks) == 5)
        await auntil(lambda: len(rate._asking._waiting) == 291)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return tasks

    assert sum(task.cancelled() for task in asyncio.run(wait())) == 295
    assert max(most) <= 4
    assert not len(rate._asking)
    assert not caplog.records


def test_many_tokens_are_counted_in_grains(valkey):
    windows = SharedWindows(valkey.url, "", {"tokens": (1_000_000, 3600.0)})
    assert windows.seconds({"tokens": 999_500}, set()) == 0
    assert windows.seconds({"tokens": 500}, set()) > 3000
    with valkey.client() as client:
        (key,) = client.keys("*")
        assert key.startswith(b"tiercache:rate:")
        assert client.llen(key) == 1000


def test_without_the_server_each_process_keeps_to_it(caplog):
    clock = FakeClock()
    rate = Rate("2/min", shared=f"redis://127.0.0.1:{free_port()}/0")
    with caplog.at_level(logging.WARNING, "tiercache"):
        drive(rate.take(BLOCKING, clock, 0))
        drive(rate.take(BLOCKING, clock, 0))
        waits = rate.take(_Steps, clock, 0)
        waits.send(None)
        assert _Steps.slept == [60.0]
        waits.close()
    assert [record.getMessage() for record in caplog.records] == [
        "the Redis that shares a rate failed (ConnectionError): each process keeps to the rate by itself"
    ]


class _Steps:
    """A runtime whose sleepers are woken by hand."""

    blocking = True
    slept: list[float] = []  # noqa: RUF012 - one test has it

    @staticmethod
    async def sleep(seconds):
        _Steps.slept.append(seconds)
        await _Pause()

    @staticmethod
    async def call(function, *args):
        return function(*args)


class _Pause:
    def __await__(self):
        yield


def test_who_is_told_too_late_asks_again(valkey, clock, monkeypatch):
    rate = Rate("9/h", shared=valkey.url)
    seconds, calls = rate._shared.seconds, []

    def slow(amounts, taken):
        calls.append(set(taken))
        if len(calls) == 1:
            clock.advance(40)
        return seconds(amounts, taken)

    monkeypatch.setattr("tiercache._loading.rate.monotonic", clock.monotonic)
    monkeypatch.setattr(rate._shared, "seconds", slow)
    drive(rate.take(BLOCKING, clock, 0))
    assert calls == [set(), set()]


def test_a_server_that_comes_back_is_used_again():
    port = free_port()
    windows = SharedWindows(f"redis://127.0.0.1:{port}/0", "", {"requests": (1, 3600.0)})
    assert windows.seconds({"requests": 1}, set()) is None
    windows._alone_until = 0.0
    with running(port=port):
        assert windows.seconds({"requests": 1}, set()) == 0.0
        assert windows.seconds({"requests": 1}, set()) > 3000


@pytest.mark.parametrize(
    "wrong", ["http://h", "redis+other://user:password@h", "redis+sentinel://user:password@h", 7, ""]
)
def test_what_may_not_be_given(wrong):
    with pytest.raises(ConfigError, match=r"^rate_shared: ") as raised:
        TieredCache([MemoryTier()], rate="1/s", rate_shared=wrong)
    assert "password@" not in str(raised.value)


@pytest.mark.parametrize("kind", ["valkey_cluster", "valkey_sentinel"])
def test_several_servers_keep_it_as_one_does(request, kind, caplog):
    servers = request.getfixturevalue(kind)
    name = f"{kind} {time.time()}"
    rate = Rate("3/h, 100 tokens/h", shared=servers.url, name=name, count_tokens=len)
    clock = FakeClock()
    drive(rate.take(BLOCKING, clock, 60))
    asyncio.run(rate.take(NATIVE, clock, 10))
    other = Rate("3/h, 100 tokens/h", shared=servers.url, name=name)
    assert not drive(other.take_now(BLOCKING, clock, 31))
    assert drive(other.take_now(BLOCKING, clock, 30))
    assert not asyncio.run(other.take_now(NATIVE, clock, 0))
    assert 3590 < SharedWindows(servers.url, name, rate.limits).seconds({"requests": 1}, set()) < 3640
    assert not caplog.records


@pytest.mark.parametrize("kind", ["cluster", "sentinel"])
def test_of_several_servers_that_are_ill_nobody_waits_for_long(kind, caplog):
    nowhere = f"redis+{kind}://127.0.0.1:{free_port()}{'/mymaster' if kind == 'sentinel' else ''}"
    rate = Rate("1/h", shared=nowhere)
    drive(rate.take(BLOCKING, FakeClock(), 0))
    assert "each process keeps to the rate by itself" in caplog.text


def test_a_call_may_share_the_rate_of_its_cache(valkey):
    with TieredCache([MemoryTier()], namespace="n", rate="1/h") as cache:
        shared = cache._options({"rate_shared": valkey.url}).pace.rate
        assert shared.text == "1/h"
        assert shared._shared is not None
        assert cache._options({"rate_shared": valkey.url}).pace.rate is shared
        assert cache._options({"rate_shared": valkey.url, "rate": None}).pace.rate is None


def test_a_rate_of_the_users_own_is_not_said_to_be_shared():
    url = "redis://127.0.0.1:1/0"
    with pytest.raises(ConfigError, match=r"^rate_shared: .* give Rate\(\.\.\., shared=\.\.\.\)"):
        TieredCache([MemoryTier()], rate=Rate("1/s"), rate_shared=url)
    with TieredCache([MemoryTier()], rate=Rate("9/s", count_tokens=len)) as cache:
        with pytest.raises(ConfigError, match=r"^rate_shared: "):
            cache.get_or_load("k", lambda _: b"v", rate_shared=url)
        own = cache._options({"rate_shared": None}).pace.rate
        assert own is cache._manner.pace.rate
    with TieredCache([MemoryTier()], rate="9/s", rate_shared=url) as cache:
        own = Rate("9/s")
        assert cache._options({"rate": own}).pace.rate is own


def test_it_shows_no_password():
    with TieredCache([MemoryTier()], rate="1/s", rate_shared="redis://user:hidden@127.0.0.1:1/0") as cache:
        assert "hidden" not in repr(cache._manner)


def test_it_needs_a_package():
    code = "from tiercache.loading import Rate; Rate('1/s', shared='redis://h')"
    assert 'pip install "tiercache-framework[pace]"' in said_without("limits", code=code)
