"""Which durable tier keeps the journal of a chain that has several, and what if it cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apis import both_apis
from missing import LossyTier, fails, restart_process

from tiercache import DiskTier, Entry, TieredCache, WriteError
from tiercache.testing import FakeClock

OLD, NEW = b"old", b"new"


class Machine:
    """Two directories and two servers; chains over them, each as in a process of its own."""

    def __init__(self, folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.clock = FakeClock()
        self.held: dict[str, dict[str, Entry[Any]]] = {"L3": {}, "L4": {}}
        self.tiers: dict[str, Any] = {}
        self.made: list[TieredCache[Any]] = []
        monkeypatch.setattr("tiercache._chain.journal._PAUSE", 0.0)

    def chain(self, layout: str) -> TieredCache[Any]:
        """``layout`` from the top down; a directory with a question mark may only be read."""
        restart_process(self.monkeypatch)
        tiers = []
        for word in layout.split():
            name = word.removesuffix("?")
            if name in self.held:
                tier: Any = LossyTier(self.held[name], name)
            else:
                tier = DiskTier(
                    self.folder / name,
                    clock=self.clock,
                    read_only=word.endswith("?"),
                    breaker_failures=None,
                    name=name,
                )
            tiers.append(tier)
            self.tiers[name] = tier
        self.made.append(TieredCache(tiers, clock=self.clock, promote="inline"))
        return self.made[-1]


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Iterator[Machine]:
    made = Machine(tmp_path, monkeypatch)
    yield made
    for cache in made.made:
        cache.close()


@both_apis
@pytest.mark.parametrize("layout", ["given? own L3", "own given? L3", "given? L3 own"])
def test_the_first_tier_that_can_be_written_keeps_the_journal(call, machine, layout):
    machine.chain("given").close()
    cache = machine.chain(layout)
    machine.held["L3"]["k"] = Entry(OLD, created_at=machine.clock.time())
    machine.clock.advance(1)
    machine.tiers["L3"].down = True
    assert set(call(cache, "delete", "k").failed) == {"given", "L3"}
    assert machine.tiers["own"].owed()["L3"] == 1
    assert call(machine.chain(layout), "get", "k") is None
    assert "k" not in machine.held["L3"]


@both_apis
def test_what_may_only_be_read_is_held_back_by_a_note_below_it(call, machine):
    machine.chain("given").set("k", OLD)
    machine.clock.advance(1)
    cache = machine.chain("given? own L3")
    assert call(cache, "get", "k") == OLD
    assert call(cache, "delete", "k").failed == ("given",)
    assert call(cache, "get", "k") is None
    assert call(machine.chain("given? own L3"), "get", "k") is None


@both_apis
def test_where_none_can_be_written_a_delete_that_a_tier_missed_raises(call, machine):
    machine.chain("given").close()
    cache = machine.chain("given? L3")
    machine.tiers["L3"].down = True
    with pytest.raises(WriteError, match="L3"):
        call(cache, "delete", "k")


@both_apis
def test_what_others_noted_where_this_process_may_only_read_is_obeyed(call, machine):
    writer = machine.chain("given L3")
    writer.set("k", OLD)
    machine.clock.advance(1)
    machine.tiers["L3"].down = True
    assert writer.delete("k").failed == ("L3",)
    reader = machine.chain("given? own L3")
    assert call(reader, "get", "k") is None
    assert "k" not in machine.held["L3"]


@both_apis
@pytest.mark.parametrize("layout", ["disk L3 L4", "L3 disk L4", "L3 L4 disk"])
def test_tiers_that_are_passed_over_for_a_journal_that_cannot_be_read_are_counted(
    call, machine, layout, monkeypatch
):
    cache = machine.chain(layout)
    cache.mset({"k": OLD, "l": OLD})
    machine.clock.advance(1)
    machine.tiers["L3"].down = machine.tiers["L4"].down = True
    cache.delete("k")
    cache = machine.chain(layout)
    monkeypatch.setattr(machine.tiers["disk"].store, "_run", fails)
    monkeypatch.setattr(machine.tiers["disk"].store._database, "run", fails)
    before = {tier.name: tier for tier in cache.stats().tiers}
    assert call(cache, "mget", ["k", "l"]) == [None, None]
    after = {tier.name: tier for tier in cache.stats().tiers}
    for name in ("L3", "L4"):
        assert after[name].skipped - before[name].skipped == 2
        assert after[name].misses - before[name].misses == 2
        assert after[name].hits == before[name].hits == 0
    assert after["disk"].errors > before["disk"].errors


def test_a_tier_at_the_top_that_is_passed_over_is_not_called(machine, monkeypatch):
    cache = machine.chain("L3 disk")
    cache.set("k", OLD)
    machine.tiers["L3"].down = True
    cache.delete("k")
    cache = machine.chain("L3 disk")
    monkeypatch.setattr(machine.tiers["disk"].store, "_run", fails)
    monkeypatch.setattr(machine.tiers["disk"].store._database, "run", fails)
    monkeypatch.setattr(machine.tiers["L3"], "mget", fails)
    assert cache.get("k") is None
    assert cache.stats().tiers[0].errors == 0
