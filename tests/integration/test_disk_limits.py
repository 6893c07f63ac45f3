"""The disk tier's bounds: on the file, on the entries, with several writers, and who makes way."""

from __future__ import annotations

import random
import sqlite3
from itertools import product
from pathlib import Path

import pytest
from selections import usually

from tiercache.entry import Entry
from tiercache.errors import EntryRejected
from tiercache.protocols import Purge
from tiercache.testing import FakeClock
from tiercache.tiers.disk import DiskTier


def held(tier: DiskTier) -> set[str]:
    keys: set[str] = set()
    cursor = None
    while True:
        page, cursor = tier.scan("", cursor=cursor)
        keys.update(page)
        if cursor is None:
            return keys


def payload(tier: DiskTier) -> int:
    connection = sqlite3.connect(tier.directory / "cache.db")
    ((total,),) = connection.execute("SELECT total(length(value)) FROM Cache").fetchall()
    connection.close()
    return int(total)


@pytest.mark.parametrize(
    ("max_bytes", "value_bytes"),
    usually(
        {(2**20, 20), (2**20, 6_144), (3 * 2**20 + 1, 700), (3 * 2**20 + 1, 90_000)},
        product([2**20, 3 * 2**20 + 1], [20, 700, 6_144, 90_000]),
    ),
)
def test_the_file_stays_within_max_bytes_and_the_room_is_used(
    tmp_path: Path, max_bytes: int, value_bytes: int
) -> None:
    source = random.Random(value_bytes)
    tier = DiskTier(tmp_path, max_bytes=max_bytes)
    rows = min(3 * max_bytes // (value_bytes + 300), 16_000)
    for start in range(0, rows, 400):
        tier.mset(
            {f"key {n}": Entry(source.randbytes(value_bytes)) for n in range(start, min(start + 400, rows))}
        )
        assert payload(tier) <= max_bytes
    tier.close()
    assert (tmp_path / "cache.db").stat().st_size <= max_bytes + 3 * 8192
    again = DiskTier(tmp_path, max_bytes=max_bytes)
    kept = held(again)
    assert f"key {rows - 1}" in kept
    assert len(kept) < rows
    assert len(kept) * (value_bytes + 300) > 0.6 * max_bytes
    again.close()


@pytest.mark.parametrize("max_bytes", [1000, 20_000, 150_000])
def test_a_budget_below_the_fixed_size_of_a_database_bounds_the_values(
    tmp_path: Path, max_bytes: int
) -> None:
    tier = DiskTier(tmp_path, max_bytes=max_bytes)
    for n in range(200):
        tier.mset({f"{n}": Entry(b"x" * (max_bytes // 10))})
        assert payload(tier) <= max_bytes
    assert 5 <= len(held(tier)) <= 10
    with pytest.raises(EntryRejected):
        tier.mset({"big": Entry(b"x" * max_bytes)})
    tier.mset({"nearly": Entry(b"x" * int(max_bytes * 0.85))})
    assert "nearly" in held(tier)
    tier.close()
    assert (tmp_path / "cache.db").stat().st_size <= max_bytes + 300_000


def test_a_batch_larger_than_the_tier_keeps_what_fits_of_its_end(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, max_bytes="1MiB")
    tier.mset({f"{n}": Entry(b"x" * 6000) for n in range(1000)})
    kept = held(tier)
    assert 60 < len(kept) < 170
    assert "999" in kept
    assert "0" not in kept
    tier.close()
    assert (tmp_path / "cache.db").stat().st_size <= 2**20 + 3 * 8192


def test_max_entries_is_exact(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = DiskTier(tmp_path, max_entries=10, clock=clock)
    for n in range(25):
        clock.advance(1)
        tier.mset({f"{n}": Entry(b"x")})
    assert held(tier) == {str(n) for n in range(15, 25)}
    assert tier.counters()["evictions"] == 15
    clock.advance(1)
    tier.mset({"15": Entry(b"y"), "16": Entry(b"y")})  # replacing takes no room
    assert held(tier) == {str(n) for n in range(15, 25)}
    assert tier.counters()["evictions"] == 15
    clock.advance(1)
    tier.mset({"17": Entry(b"z"), "new": Entry(b"z")})  # "17" is replaced and the oldest at once
    assert len(held(tier)) == 10
    assert {"17", "new", "15", "16"} <= held(tier)
    tier.mset({f"batch {n}": Entry(b"x") for n in range(37)})
    assert held(tier) == {f"batch {n}" for n in range(27, 37)}
    tier.close()


def test_expired_entries_make_way_before_live_ones_and_read_ones_last(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = DiskTier(tmp_path, max_entries=4, clock=clock)
    for key, life in (("oldest", None), ("old, but read", None), ("young", None), ("short", 10)):
        clock.advance(1)
        tier.mset({key: Entry(b"x", None if life is None else clock.time() + life)})
    clock.advance(20)
    assert "old, but read" in tier.mget(["old, but read"])
    tier.mset({"a": Entry(b"x")})
    assert tier.counters() == {"evictions": 0, "expirations": 1, "corrupt": 0, "foreign": 0}
    tier.mset({"b": Entry(b"x")})
    assert held(tier) == {"old, but read", "young", "a", "b"}
    tier.mset({"c": Entry(b"x")})
    assert held(tier) == {"old, but read", "a", "b", "c"}
    assert tier.counters()["evictions"] == 2
    tier.close()


def test_uses_of_another_life_of_the_tier_count_too(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = DiskTier(tmp_path, max_entries=2, clock=clock)
    tier.mset({"first": Entry(b"x")})
    clock.advance(1)
    tier.mset({"second": Entry(b"x")})
    clock.advance(1)
    tier.mget(["first"])
    tier.close()
    again = DiskTier(tmp_path, max_entries=2, clock=clock)
    again.mset({"third": Entry(b"x")})
    assert held(again) == {"first", "third"}
    again.close()


def test_a_lowered_budget_is_reached_in_steps_and_the_file_shrinks(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, max_bytes="32MiB")
    for start in range(0, 3000, 500):
        tier.mset({f"{n}": Entry(random.randbytes(6000)) for n in range(start, start + 500)})
    tier.close()
    assert (tmp_path / "cache.db").stat().st_size > 20 * 2**20
    tier = DiskTier(tmp_path, max_bytes="4MiB")
    for n in range(20):
        tier.mset({f"new {n}": Entry(b"x")})
    assert payload(tier) <= 4 * 2**20
    for _ in range(50):  # what the thread behind the callers does; it may be at it already
        tier.store._keep_up()
    assert tier.store._run(_free_pages) < 300
    tier.close()
    assert (tmp_path / "cache.db").stat().st_size <= 8 * 2**20


def test_the_file_of_a_tier_that_stays_open_gets_shorter(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, max_bytes="64MiB")
    tier.store._upkeep.close(10)  # its thread would come in between at times of its own
    tier.mset({f"{n}": Entry(random.randbytes(6000)) for n in range(1000)})
    tier.store._keep_up()
    assert (tmp_path / "cache.db").stat().st_size > 5 * 2**20
    tier.clear("")
    for _ in range(50):
        tier.store._keep_up()
    assert (tmp_path / "cache.db").stat().st_size < 2**20
    tier.close()


def _free_pages(connection: sqlite3.Connection) -> int:
    ((free,),) = connection.execute("PRAGMA freelist_count").fetchall()
    return int(free)


def test_purge_gives_room_back(tmp_path: Path) -> None:
    clock = FakeClock()
    tier = DiskTier(tmp_path, max_bytes="2MiB", clock=clock)
    tier.mset({f"{n}": Entry(b"x" * 6000, clock.time() + 1) for n in range(200)})
    clock.advance(1)
    assert tier.purge("", what=Purge()) == 200
    tier.mset({f"{n}": Entry(b"x" * 6000) for n in range(200)})
    assert tier.counters()["evictions"] == 0
    tier.close()


def test_the_log_is_brought_home_behind_the_caller(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, max_bytes="64MiB")
    tier.store._upkeep.close(10)  # its thread would come in between at times of its own
    sizes = []
    for round_ in range(12):
        tier.mset({f"{round_} {n}": Entry(random.randbytes(6000)) for n in range(400)})
        tier.store._keep_up()
        sizes.append((tmp_path / "cache.db-wal").stat().st_size)
    assert max(sizes) < 12 * 2**20  # 30 MiB were written
    tier.close()
    assert not (tmp_path / "cache.db-wal").exists()
