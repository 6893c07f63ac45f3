"""What several processes, or several chains, over the same tiers owe to each other, step by step."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from missing import restart_process

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierTimeout
from tiercache.protocols import Purge
from tiercache.testing import ChaosTier, DictTier, FakeClock, Raise


class Overtaken:
    """A way to ``tier`` on which the next write is overtaken by whatever ``before_mset`` does."""

    def __init__(self, tier: DictTier) -> None:
        self.name = tier.name
        self.location = ("overtaken", tier.name)
        self.mget, self.mdelete, self.scan, self.close = tier.mget, tier.mdelete, tier.scan, tier.close
        self._mset = tier.mset
        self.before_mset: Callable[[], object] | None = None

    def mset(self, entries: Mapping[str, Entry[Any]]) -> None:
        before, self.before_mset = self.before_mset, None
        if before is not None:
            before()
        self._mset(entries)


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


@pytest.mark.parametrize("end", ["delete", "clear"])
@pytest.mark.parametrize("view", ["", "v"], ids=["default", "view"])
def test_what_arrives_below_after_another_process_ended_it_is_not_served(
    end: str, view: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load's write that was on its way to the server, after the look at the disk, while others deleted."""
    server = DictTier("server")

    def process(lowest: Any) -> TieredCache[Any]:
        cache: TieredCache[Any] = TieredCache([MemoryTier(ttl=1e-9), DiskTier(tmp_path / "d"), lowest])
        return cache.view(view) if view else cache

    one = process(server)
    restart_process(monkeypatch)
    late = Overtaken(server)
    other = process(late)
    late.before_mset = partial(one.delete, "k") if end == "delete" else one.clear
    assert other.get_or_load("k", lambda _key: b"old") == b"old"
    assert len(server.scan("")[0]) == 1, "nothing was late"
    assert process(server).get("k") is None
    assert not server.scan("")[0], "it is still there for those who do not know of the delete"
    one.set("k", b"new")
    DiskTier(tmp_path / "d").purge("", what=Purge(expired=False, older_than=0))
    assert one.get("k") == other.get("k") == b"new", "what came after the delete is no older than it"


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
