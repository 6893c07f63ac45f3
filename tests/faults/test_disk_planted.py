"""What somebody planted in the directory, seen by a chain: a miss and a counter, and nothing is followed.

Pickled rows, rows with a file name, linked and foreign directories and files are in the unit tests of the
disk tier; this is what they do not show.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tiercache import ConfigError, DiskTier, TieredCache
from tiercache.testing import FakeClock
from tiercache.tiers.disk._directory import BALLAST, DOOR


@pytest.fixture
def cache(tmp_path: Path, clock: FakeClock) -> Iterator[TieredCache[bytes]]:
    with TieredCache([DiskTier(tmp_path / "d", clock=clock)], namespace="n", clock=clock) as made:
        yield made


def run_sql(directory: Path, statement: str) -> None:
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as connection:
        connection.execute(statement)
        assert connection.total_changes > 0


def corrupt(cache: TieredCache[bytes]) -> int:
    return cache.stats().tiers[0].corrupt


def test_rows_that_swapped_their_values(tmp_path: Path, cache: TieredCache[bytes]) -> None:
    cache.mset({"a": b"of a", "b": b"of b", "c": b"of c"})
    run_sql(
        tmp_path / "d",
        "WITH was AS MATERIALIZED (SELECT key, value FROM Cache) UPDATE Cache SET value = was.value FROM was"
        " WHERE (Cache.key LIKE '%a' AND was.key LIKE '%b') OR (Cache.key LIKE '%b' AND was.key LIKE '%a')",
    )
    assert cache.mget(["a", "b", "c"]) == [None, None, b"of c"]
    assert corrupt(cache) == 2


def test_an_entry_replayed_under_another_key_or_namespace(tmp_path: Path, cache: TieredCache[bytes]) -> None:
    cache.set("k", b"mine")
    cache.view("other").set("k", b"theirs")
    run_sql(
        tmp_path / "d",
        "UPDATE Cache SET value = (SELECT value FROM Cache WHERE key NOT LIKE '%other%')"
        " WHERE key LIKE '%other%'",
    )
    assert cache.view("other").get("k") is None
    assert cache.get("k") == b"mine"
    assert corrupt(cache) == 1


def test_an_entry_replayed_after_its_time(
    tmp_path: Path, cache: TieredCache[bytes], clock: FakeClock
) -> None:
    """The row's own column is for sweeping: the time that counts is in the envelope, and verified with it."""
    cache.set("k", b"v", ttl=10)
    run_sql(tmp_path / "d", "UPDATE Cache SET expire_time = NULL")
    assert cache.get("k") == b"v"
    clock.advance(10)
    assert cache.get("k") is None
    assert cache.stats().tiers[0].expirations == 1


@pytest.mark.parametrize("name", [BALLAST, DOOR])
def test_a_link_in_place_of_a_file_of_ours_is_refused(tmp_path: Path, name: str) -> None:
    """What it names would be filled, cut, or have its rights changed."""
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    DiskTier(tmp_path / "d").close()
    (tmp_path / "d" / name).symlink_to(target)
    with pytest.raises(ConfigError, match="no plain file"):
        DiskTier(tmp_path / "d")
    assert target.read_bytes() == b"precious"


def test_a_link_planted_while_the_tier_is_in_use(tmp_path: Path, cache: TieredCache[bytes]) -> None:
    cache.set("k", b"v")
    target = tmp_path / "precious"
    target.write_bytes(b"precious")
    ballast = tmp_path / "d" / BALLAST
    ballast.unlink()
    ballast.symlink_to(target)
    cache.set("k", b"w")
    cache.delete("k")
    assert target.read_bytes() == b"precious"
