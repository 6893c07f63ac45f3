"""Promotion: how often tiers are called, what is bounded, what is lost at a fork or an exit, and lives."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pythons
from forked import exit_code

from tiercache import Entry, MemoryTier, TieredCache
from tiercache._running.promoter import Promoter
from tiercache.testing import ChaosTier, DictTier, FakeClock, Hang, SpyTier

LIMIT = 20.0


@pytest.fixture
def promoter() -> Iterator[Promoter]:
    made = Promoter()
    yield made
    made.idle().result(LIMIT)


# -- how often tiers are called --------------------------------------------------------------------


@pytest.mark.parametrize("promote", ["inline", "background"])
def test_one_mget_of_a_thousand_calls_each_tier_once(promote: Any) -> None:
    spies = [SpyTier(DictTier(f"tier {depth}")) for depth in range(3)]
    keys = [f"k{number}" for number in range(1000)]
    spies[2].tier.mset({key: Entry(key.encode()) for key in keys})
    with TieredCache(spies, promote=promote) as cache:
        assert cache.mget(keys + keys) == [key.encode() for key in keys] * 2
        cache.flush()
        for spy in spies:
            assert spy.keys("mget") == keys
            assert spy.count("mget") == 1
        assert [spy.count("mset") for spy in spies] == [1, 1, 0]
        assert set(spies[0].keys("mset")) == set(spies[1].keys("mset")) == set(keys)
        assert [tier.promotions for tier in cache.stats().tiers] == [1000, 1000, 0]
        assert [tier.sets for tier in cache.stats().tiers] == [0, 0, 0]


@pytest.mark.parametrize("promote", ["inline", "background"])
def test_hits_of_two_tiers_rise_in_one_mset(promote: Any) -> None:
    spies = [SpyTier(DictTier(f"tier {depth}")) for depth in range(3)]
    spies[1].tier.mset({f"k{number}": Entry(b"1") for number in range(500)})
    spies[2].tier.mset({f"k{number}": Entry(b"2") for number in range(500, 1000)})
    with TieredCache(spies, promote=promote) as cache:
        assert cache.mget([f"k{number}" for number in range(1000)]) == [b"1"] * 500 + [b"2"] * 500
        cache.flush()
        assert [spy.count("mset") for spy in spies] == [1, 1, 0]
        assert [len(spy.keys("mset")) for spy in spies] == [1000, 500, 0]
        assert [len(spy.keys("mget")) for spy in spies] == [1000, 1000, 500]


def test_memory_is_filled_before_a_look_up_returns() -> None:
    middle = ChaosTier(DictTier("middle"))
    low = DictTier("low")
    low.mset({"k": Entry(b"v")})
    memory = MemoryTier()
    with TieredCache([memory, middle, low]) as cache:
        middle.inject(Hang(LIMIT), on="mset")
        assert cache.get("k") == b"v"
        assert memory.size().entries == 1  # while the promotion into the middle hangs
        middle.wait_for_hang()
        middle.heal()


# -- lives -----------------------------------------------------------------------------------------


def test_the_life_of_a_promoted_entry_never_grows() -> None:
    clock = FakeClock()
    low = DictTier("low", clock=clock)
    middle = DictTier("middle", clock=clock)
    middle.ttl = 50  # type: ignore[attr-defined]  # a tier's own cap
    top = DictTier("top", clock=clock)
    top.ttl = 20  # type: ignore[attr-defined]  # a tier's own cap
    with TieredCache([top, middle, low], promote="inline", clock=clock) as cache:
        start = clock.time()
        cache.set("k", b"v", ttl=60)
        for seconds, tops, middles in [(0, 20, 50), (25, 45, 50), (20, 50, 50), (6, 60, 60)]:
            clock.advance(seconds)
            assert cache.get("k") == b"v"
            assert top.entries["k"].expires_at == start + tops
            assert middle.entries["k"].expires_at == start + middles
            assert low.entries["k"].expires_at == start + 60
        clock.advance(8.999)
        assert cache.get("k") == b"v"
        clock.advance(0.001)
        assert cache.get("k") is None


# -- the queue -------------------------------------------------------------------------------------


def test_the_queue_is_bounded_and_what_it_drops_is_counted() -> None:
    middle = ChaosTier(DictTier("middle"))
    low = DictTier("low")
    low.mset({f"k{number}": Entry(b"v") for number in range(50_000)})
    with TieredCache([DictTier("top"), middle, low]) as cache:
        middle.inject(Hang(LIMIT), on="mset")
        asked = 0
        for start in range(0, 50_000, 1000):
            cache.mget([f"k{number}" for number in range(start, start + 1000)])
            asked += 2000  # two tiers above
        middle.heal()
        cache.flush()
        stats = cache.stats()
        kept = sum(tier.promotions for tier in stats.tiers)
        assert stats.promotions_dropped > 0
        assert kept + stats.promotions_dropped == asked
        assert kept <= 16_384 + 2 * 2000
        assert not cache._core.space.epochs._tickets


def test_a_job_that_fails_does_not_end_the_worker(promoter: Promoter) -> None:
    done = threading.Event()

    def leave() -> None:
        raise SystemExit

    assert promoter.submit(leave, entries=1, size=1)
    assert promoter.submit(done.set, entries=1, size=1)
    promoter.idle().result(LIMIT)
    assert done.is_set()


def test_one_job_larger_than_the_queue_is_done_alone(promoter: Promoter) -> None:
    go = threading.Event()
    assert promoter.submit(lambda: bool(go.wait(LIMIT)) and None, entries=1, size=1)
    assert promoter.submit(lambda: None, entries=10**6, size=10**12) in (True, False)
    go.set()
    promoter.idle().result(LIMIT)
    assert promoter.submit(lambda: None, entries=10**6, size=10**12)


def test_without_a_thread_to_be_had_promotions_are_dropped_and_reads_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    low = DictTier("low")
    low.mset({"k": Entry(b"v")})
    with TieredCache([DictTier("top"), low]) as cache:

        def refuse(_thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert cache.get("k") == b"v"
        assert cache.stats().promotions_dropped == 1
        cache.flush()
        assert cache.get("k") == b"v"
        cache.flush()
        assert cache.stats().tiers[0].promotions == 1


def test_a_chain_starts_no_thread_before_it_needs_one() -> None:
    before = set(threading.enumerate())
    with TieredCache([MemoryTier(), DictTier()]) as cache:
        cache.set("k", b"v")
        cache.get("k")
        cache.get_or_load("l", lambda _key: b"w")
        assert set(threading.enumerate()) - before == set()


# -- forks and exits -------------------------------------------------------------------------------


def _child(job: Any) -> int:
    """Run ``job`` in a fork; its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = job() or 0
        finally:
            os._exit(code)
    return exit_code(pid)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # it is what is tested
def test_a_fork_loses_promotions_only() -> None:
    middle = ChaosTier(DictTier("middle"))
    low = DictTier("low")
    low.mset({"k": Entry(b"v"), "l": Entry(b"w")})
    with TieredCache([MemoryTier(), middle, low]) as cache:
        middle.inject(Hang(LIMIT), on="mset")
        assert cache.get("k") == b"v"
        middle.wait_for_hang()
        assert cache.get("l") == b"w"  # queued behind

        def child() -> int:
            middle._plans.clear()
            cache.flush()  # nothing is left to wait for
            ok = cache.get("k") == b"v" and cache.set("m", b"x").ok and cache.get("m") == b"x"
            ok = ok and cache.get_or_load("n", lambda _key: b"y") == b"y" and cache.delete("k").ok
            ok = ok and cache.get("k") is None
            cache.close()
            return 0 if ok else 2

        assert _child(child) == 0
        middle.heal()
        cache.flush()
        assert set(middle.tier.entries) == {"k", "l"}
        assert cache.get("k") == b"v"  # the child's delete was the child's


class UnlockedTier:
    """A dict, as plain as can be: no lock that a fork could leave held."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry[bytes]] = {}

    def mget(self, keys: Any) -> Any:
        return {key: self.entries[key] for key in keys if key in self.entries}

    def mset(self, entries: Any) -> None:
        self.entries.update(entries)

    def mdelete(self, keys: Any) -> None:
        for key in keys:
            self.entries.pop(key, None)

    def close(self) -> None:
        pass


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # it is what is tested
def test_forks_while_other_threads_use_the_chain() -> None:
    cache = TieredCache([MemoryTier(max_entries=50), UnlockedTier(), UnlockedTier()])
    stop = threading.Event()
    keys = [f"k{number}" for number in range(100)]

    def use(number: int) -> None:
        while not stop.is_set():
            cache.mset({key: key.encode() for key in keys[number::4]})
            cache.mget(keys)
            cache.mget_or_load(keys, lambda wanted: [key.encode() for key in wanted])
            cache.mdelete(keys[number::8])

    def child() -> int:
        for key in keys:
            cache.set(key, b"child " + key.encode())
            if cache.get(key) != b"child " + key.encode():
                return 2
        cache.mdelete(keys[:50])
        if cache.mget(keys[:50]) != [None] * 50:
            return 3
        if cache.mget_or_load(keys[:50], lambda wanted: [b"new"] * len(wanted)) != [b"new"] * 50:
            return 4
        cache.stats()
        cache.clear()
        cache.close()
        return 0

    threads = [threading.Thread(target=use, args=(number,), daemon=True) for number in range(4)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for thread in threads:
            thread.start()
        assert [_child(child) for _ in range(5)] == [0] * 5
    finally:
        stop.set()
        sys.setswitchinterval(interval)
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    cache.close()


def _run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return pythons.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


def test_an_exit_without_close_gives_promotions_a_moment(tmp_path: Path) -> None:
    code = """
        import sys
        from tiercache import DiskTier, Entry, MemoryTier, TieredCache
        from tiercache.testing import DictTier
        low = DictTier()
        low.mset({f"k{n}": Entry(b"v") for n in range(100)})
        cache = TieredCache([MemoryTier(), DiskTier(sys.argv[1]), low])
        print(sum(value == b"v" for value in cache.mget([f"k{n}" for n in range(100)])))
    """
    ended = _run(code, str(tmp_path / "disk"))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "100\n", "")


@pytest.mark.parametrize("how", ["promotion", "async read"])
def test_an_exit_is_not_held_up_by_a_tier_that_hangs(how: str) -> None:
    code = """
        import asyncio, sys, time
        from tiercache import Entry, MemoryTier, TieredCache
        from tiercache.testing import ChaosTier, DictTier, Hang
        low = DictTier()
        low.mset({"k": Entry(b"v")})
        middle = ChaosTier(DictTier())
        cache = TieredCache([MemoryTier(), middle, low])

        async def main():
            try:
                async with asyncio.timeout(0.2):
                    await cache.aget("k")
            except TimeoutError:
                print("gave up")

        if sys.argv[1] == "promotion":
            middle.inject(Hang(60), on="mset")
            print(cache.get("k"))
            middle.wait_for_hang()
        else:
            middle.inject(Hang(60), on="mget")
            asyncio.run(main())
    """
    ended = _run(code, how)  # its limit is less than what the tier hangs
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ("b'v'\n" if how == "promotion" else "gave up\n")
    assert ended.stderr == ""
