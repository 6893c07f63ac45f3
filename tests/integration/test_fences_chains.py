"""What several processes, or several chains, over the same tiers owe to each other, step by step."""

from __future__ import annotations

import gc
import time
from pathlib import Path

import pytest
from missing import restart_process

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierTimeout
from tiercache.testing import ChaosTier, DictTier, FakeClock, Raise


@pytest.mark.parametrize("write", ["set", "delete", "clear"])
def test_what_another_process_ended_during_a_load_is_not_stored_below_the_disk_either(
    write: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = DictTier("server")
    one = TieredCache([MemoryTier(), DiskTier(tmp_path / "d"), server])
    restart_process(monkeypatch)  # from here on two processes, which know nothing of each other
    other = TieredCache([MemoryTier(), DiskTier(tmp_path / "d"), server])

    def load(key: str) -> bytes:
        {"set": lambda: one.set("k", b"new"), "delete": lambda: one.delete("k"), "clear": one.clear}[write]()
        return b"old"

    assert other.get_or_load("k", load) == b"old"
    held = server.mget(["k"]).get("k")
    assert (None if held is None else held.value) == (b"new" if write == "set" else None)
    assert one.get("k") == (b"new" if write == "set" else None)
    assert other.get("k") == (b"new" if write == "set" else None)
    assert other.stats().suppressed_writes == 1


def test_a_slow_load_is_stored_though_young_entries_of_others_went_meanwhile(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = DiskTier(tmp_path / "d", clock=clock, max_entries=3)
    with TieredCache([tier], clock=clock) as cache:

        def load(key: str) -> bytes:
            for number in range(20):  # they push each other out, or end
                cache.set(f"short {number}", b"x", ttl=1)
                clock.advance(0.5)
            return b"paid for"

        cache.get_or_load("k", load)
        assert tier.mget(["k"]).keys() == {"k"}


def test_what_a_tier_is_owed_outlives_a_chain_that_nobody_closed(tmp_path: Path) -> None:
    server = ChaosTier(DictTier("server"))
    cache = TieredCache([MemoryTier(), server])
    cache.set("k", b"secret")
    server.inject(Raise(), on="mdelete")
    assert cache.delete("k").failed == ("server",)
    del cache
    gc.collect()
    server.heal()
    assert TieredCache([MemoryTier(), server]).get("k") is None


def test_a_command_that_timed_out_is_known_to_every_chain_over_the_tier(tmp_path: Path) -> None:
    server = ChaosTier(DictTier("server"))
    one, other = (TieredCache([MemoryTier(), server]) for _ in range(2))
    server.inject(Raise(TierTimeout("late")), on="mset", times=1)
    late = Entry(b"old", created_at=time.time())
    one.get_or_load("k", lambda _key: b"old")  # not stored on the server, or not yet
    other.delete("k")
    server.mset({"k": late})  # now it arrives
    assert other.get("k") is None
