"""Which notes about ranges hold a key: as a look at each of them would say."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tiercache import DiskTier, MemoryTier, TieredCache, TierTimeout
from tiercache._guard.arrears import Arrears
from tiercache._guard.ranges import Ranges, covers
from tiercache.entry import Entry
from tiercache.protocols import Debt
from tiercache.testing import ChaosTier, DictTier, Raise


def debt(start: str, skip: str = "", before: float = 1.0, tier: str = "L3", *, settled: bool = False) -> Debt:
    return Debt(tier, start, before, skip, settled)


def test_ranges_are_found_by_the_beginnings_of_keys():
    random = Random(3)
    texts = ["".join(random.choices("ab/", k=random.randint(0, 5))) for _ in range(80)]
    ranges = Ranges()
    noted: dict[tuple[str, str | None, str], Debt] = {}
    for number in range(600):
        one = debt(
            random.choice(texts),
            random.choice(["", *texts[:5]]),
            float(number),
            random.choice(["L2", "L3"]),
            settled=random.random() < 0.5,
        )
        assert ranges.same(one) == noted.get((one.key, one.skip, one.tier))
        ranges.put(one)
        noted[one.key, one.skip, one.tier] = one
        keys = random.choices(texts, k=random.randint(0, 4))
        expected = {one for one in noted.values() if any(covers(one, key) for key in keys)}
        found = ranges.covering(keys)
        assert set(found) == expected
        assert len(found) == len(expected)
    assert set(ranges) == set(noted.values())
    assert len(ranges) == len(noted)
    ranges.clear()
    assert not ranges
    assert ranges.covering(texts) == []


def test_arrears_of_too_many_ranges_refuses_all_that_is_older(monkeypatch):
    monkeypatch.setattr("tiercache._guard.arrears._MOST_RANGES", 10)
    arrears = Arrears()
    for number in range(10):
        arrears.owe([debt(f"view {number}/", before=100.0 + number)])
    found = {"other": Entry(b"", created_at=50.0), "view 3/k": Entry(b"", created_at=50.0)}
    assert list(arrears.too_old(found, ())) == ["view 3/k"]
    arrears.owe([debt("one more/", before=110.0)])
    assert sorted(arrears.too_old(found, ())) == ["other", "view 3/k"]
    assert arrears.owed() == 0  # nobody knows any more what to clear
    assert list(arrears.too_old({"new": Entry(b"", created_at=1_000.0)}, ())) == []


def test_clears_that_succeed_leave_no_notes():
    server = ChaosTier(DictTier("server"))
    with TieredCache([MemoryTier(), server]) as cache:
        server.inject(Raise(TierTimeout("late")), on="mset", times=1)
        cache.set("k", b"timed out")
        arrears = cache._stack.guards[1].arrears
        assert arrears.debts
        for number in range(20):
            cache.view(f"view {number}").clear()
        assert not arrears._wide


def test_a_clear_that_comes_later_settles_the_one_that_was_missed(tmp_path: Path):
    """In the journal too: cleared once more behind the callers, what was stored since would be lost."""
    server, disk = ChaosTier(DictTier("server")), DiskTier(tmp_path / "disk")
    with TieredCache([disk, server]) as cache:
        view = cache.view("v")
        view.set("k", b"old")
        server.inject(Raise(), on="clear", times=1)
        view.clear()
        assert cache.stats().tiers[1].owed == 1
        view.clear()
        cache.flush()
        assert cache.stats().tiers[1].owed == 0
        assert disk.owed() == {}
        view.set("k", b"new")
        cache._stack.journal._settle_all()
        assert next(iter(server.mget(server.scan("")[0]).values())).value == b"new"
