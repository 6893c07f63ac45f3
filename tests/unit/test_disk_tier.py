"""The disk tier: what it keeps, lists, forgets and refuses."""

from __future__ import annotations

import gc
import json
import os
import pickle
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from selections import together

from tiercache.entry import Entry
from tiercache.errors import CacheClosed, EntryRejected, TierTimeout
from tiercache.protocols import (
    Purge,
    SupportsClear,
    SupportsCounters,
    SupportsPurge,
    SupportsScan,
    SupportsSize,
    Tier,
)
from tiercache.testing import FakeClock
from tiercache.tiers.disk import DiskTier, _uses
from tiercache.tiers.disk._directory import prepare
from tiercache.tiers.disk._engine import Engine, RefusedRow, create_database
from tiercache.tiers.disk._statements import SCAN, row_key

STRANGE_KEYS = [
    "",
    "a/b",
    "a\nb",
    "a\0b",
    "a\0c",
    "a",
    "\ud800",
    "\udfff\ud800",
    "\ud83d\ude00",
    "😀",
    "x" * 10_000,
    "'\"\\",
    "\x1ftc:/",
]


@pytest.fixture
def tier(tmp_path: Path, clock: FakeClock) -> Iterator[DiskTier]:
    made = DiskTier(tmp_path / "d", clock=clock)
    yield made
    made.close()


def entries(keys: list[str], expires_at: float | None = None) -> dict[str, Entry[bytes]]:
    return {key: Entry(f"value of {key!r}".encode(), expires_at) for key in keys}


def listed(tier: DiskTier, prefix: str = "", skip: str = "", limit: int = 1000) -> list[str]:
    keys: list[str] = []
    cursor = None
    while True:
        page, cursor = tier.scan(prefix, skip=skip, cursor=cursor, limit=limit)
        assert len(page) <= limit
        keys += page
        if cursor is None:
            return keys


def plant(tier: DiskTier, sql: str, *values: object) -> int:
    with sqlite3.connect(tier.directory / "cache.db") as connection:
        changed = connection.execute(sql, values).rowcount
    connection.close()
    return changed


def test_what_it_can_do(tier: DiskTier) -> None:
    for protocol in (Tier, SupportsScan, SupportsClear, SupportsPurge, SupportsCounters):
        assert isinstance(tier, protocol)
    assert not isinstance(tier, SupportsSize)
    assert tier.name == "disk"
    assert tier.stores_bytes


def test_any_key_and_all_times_come_back(tier: DiskTier, clock: FakeClock) -> None:
    now = clock.time()
    wanted = {
        key: Entry(key.encode("utf-8", "surrogatepass"), now + 5 + index, now, now + 1, "text")
        for index, key in enumerate(STRANGE_KEYS)
    }
    tier.mset(wanted)
    found = tier.mget(STRANGE_KEYS)
    for key, entry in wanted.items():
        for got in (found[key], tier.mget([key])[key]):
            assert (got.value, got.expires_at, got.created_at, got.fresh_until, got.codec) == (
                entry.value, entry.expires_at, entry.created_at, entry.fresh_until, entry.codec,
            )  # fmt: skip
    assert sorted(listed(tier, limit=3)) == sorted(STRANGE_KEYS)
    tier.mdelete(["a\0b", "\ud800", "nobody"])
    assert tier.mget(STRANGE_KEYS).keys() == set(STRANGE_KEYS) - {"a\0b", "\ud800"}


def test_survives_reopening(tier: DiskTier) -> None:
    tier.mset(entries(["k"]))
    tier.close()
    again = DiskTier(tier.directory)
    assert again.mget(["k"])["k"].value == b"value of 'k'"
    again.close()


def test_empty_batches_and_empty_values(tier: DiskTier) -> None:
    tier.mset({})
    tier.mdelete([])
    assert tier.mget([]) == {}
    tier.mset({"k": Entry(b"")})
    assert tier.mget(["k"])["k"].value == b""


def test_overwriting_keeps_the_totals(tier: DiskTier) -> None:
    for size in (10, 100_000, 10):
        tier.mset({"k": Entry(b"x" * size), "l": Entry(b"y")})
    assert tier.mget(["k"])["k"].value == b"x" * 10
    connection = sqlite3.connect(tier.directory / "cache.db")
    totals = dict(
        connection.execute("SELECT key, value FROM Settings WHERE key IN ('count', 'size')").fetchall()
    )
    assert connection.execute("SELECT count(*), sum(size), sum(length(value)) FROM Cache").fetchone() == (
        totals["count"], totals["size"], totals["size"],
    )  # fmt: skip
    connection.close()


def test_expired_is_a_miss_counted_and_swept_by_the_next_write(tier: DiskTier, clock: FakeClock) -> None:
    tier.mset(entries(["a", "b"], clock.time() + 10) | entries(["c"]))
    clock.advance(10)
    assert tier.mget(["a", "b", "c"]).keys() == {"c"}
    assert listed(tier) == ["c"]
    assert tier.counters()["expirations"] == 2
    tier.mset(entries(["d"]))
    assert plant(tier, "UPDATE Cache SET raw = raw") == 2
    assert tier.counters()["expirations"] == 4  # found by the read, and swept


def test_no_key_is_the_row_of_another(tier: DiskTier) -> None:
    """Keys are their own rows' keys where they can be; those of others are digests, which somebody might
    ask for. A batch of plain characters takes another road than one of any."""
    plain = ["k" * 256, "k" * 255, "\x1ftc:4:name/k", "\x1f", "=", "a,b", "u001f", "\\u001f"[1:]]
    other = [
        "",
        '"',
        '","',
        "\\",
        "\\u001f",
        "ключ",
        "\ufeffk",
        "\uffff",
        "😀",
        "é",
        "e\u0301",
        "\n",
        "k\x01",
    ]
    strange = ["k" * 257, "é" * 257, "a\0b", "a\0c", "\ud83d", "\ud83d\ude00", "\x7f", "\x7fk"]
    digests = [row_key(key) for key in strange]
    keys = [*dict.fromkeys([*plain, *other, *strange, *digests])]
    assert all(row_key(key) == key for key in [*plain, *other])
    assert not {*digests} & {*keys} - {*digests}
    assert len({row_key(key) for key in keys}) == len(keys)
    tier.mset(entries(keys))
    # Each strange key among plain ones too: one is enough to take the batch off the short road.
    for batch in (plain, keys, keys[::-1], *([*plain, key] for key in keys)):
        assert {key: entry.value for key, entry in tier.mget(batch).items()} == {
            key: entry.value for key, entry in entries(batch).items()
        }
    assert all(tier.mget([key]).keys() == {key} for key in keys)
    gone = [plain[0], "ключ", strange[0], digests[3]]
    tier.mdelete(gone)
    assert tier.mget(keys).keys() == {*keys} - {*gone}


@together("prefix", ["", "a", "ab", "a\0", "\ud83d", "\U0010ffff", "nobody"])
@together("skip", ["", "ab", "abc", "a", "zz"])
def test_ranges(tier: DiskTier, prefix: str, skip: str) -> None:
    keys = [
        "",
        "a",
        "ab",
        "abc",
        "abd",
        "ab\U0010ffff",
        "ac",
        "a\0",
        "b",
        "\ud83dx",
        "\ud83e",
        "\U0010ffff",
        "\U0010ffff\U0010ffff",
        "zzz",
    ]
    tier.mset(entries(keys))
    inside = {key for key in keys if key.startswith(prefix) and not (skip and key.startswith(skip))}
    assert sorted(listed(tier, prefix, skip, limit=2)) == sorted(inside)
    tier.clear(prefix, skip=skip)
    assert tier.mget(keys).keys() == set(keys) - inside


def test_a_listing_reads_its_range_alone(tier: DiskTier) -> None:
    tier.mset(entries(["a"]))
    connection = sqlite3.connect(tier.directory / "cache.db")
    plan = connection.execute("EXPLAIN QUERY PLAN " + SCAN, (b"a", b"b", 0, 1)).fetchall()
    connection.close()
    assert [row[3] for row in plan] == ["SEARCH Cache USING COVERING INDEX Tier_tag (tag>? AND tag<?)"]


def test_clear_of_more_than_one_step(tier: DiskTier) -> None:
    tier.mset({f"n{i}": Entry(b"x") for i in range(2500)} | {"other": Entry(b"x")})
    tier.clear("n")
    assert listed(tier) == ["other"]


def test_purge_by_age_and_by_expiry(tier: DiskTier, clock: FakeClock) -> None:
    tier.mset(entries(["n:old"]) | entries(["n:short"], clock.time() + 5) | entries(["o:old", "n:skip:old"]))
    clock.advance(100)
    tier.store._upkeep.close(0)  # so that what follows is the purge's work alone
    assert tier.purge("n:", what=Purge(expired=False)) == 0
    assert tier.purge("n:", skip="n:skip", what=Purge(older_than=100.5)) == 1  # n:short, by its expiry
    assert tier.counters()["expirations"] == 1
    assert tier.purge("n:", skip="n:skip", what=Purge(older_than=99)) == 1
    assert sorted(listed(tier)) == ["n:skip:old", "o:old"]
    assert tier.counters()["expirations"] == 1


def test_purge_of_many_pages(tier: DiskTier, clock: FakeClock) -> None:
    tier.mset({f"n{i:04}": Entry(b"x", None if i % 2 else clock.time() + 1) for i in range(2500)})
    clock.advance(1)
    assert tier.purge("", what=Purge()) == 1250
    assert listed(tier) == [f"n{i:04}" for i in range(1, 2500, 2)]


def test_purge_by_idleness_knows_reads_of_before_and_of_now(tier: DiskTier, clock: FakeClock) -> None:
    tier.mset(entries(["read before", "read now", "never read"]))
    clock.advance(100)
    tier.mget(["read before"])
    tier.close()
    again = DiskTier(tier.directory, clock=clock)
    again.mget(["read now"])
    assert again.purge("", what=Purge(idle=50)) == 1
    assert sorted(listed(again)) == ["read before", "read now"]
    again.close()


def test_reads_write_nothing_on_the_callers_thread(tier: DiskTier) -> None:
    tier.mset(entries(["k"]))
    log = tier.directory / "cache.db-wal"
    before = log.stat().st_size
    for _ in range(100):
        tier.mget(["k", "l"])
    assert log.stat().st_size == before


def test_uses_are_noted_of_what_was_found(tier: DiskTier, clock: FakeClock) -> None:
    tier.mset(entries(["k", "x" * 300, "nobody asks"]) | entries(["late"], clock.time() + 1))
    clock.advance(5)
    tier.mget(["absent", "k", "x" * 300, "late"])
    assert tier.store._uses.by_row() == dict.fromkeys(["k", row_key("x" * 300)], clock.time())
    clock.advance(5)
    tier.mget(["k"])
    assert tier.store._uses.by_row() == {"k": clock.time(), row_key("x" * 300): clock.time() - 5}


def test_last_uses_are_written_behind_the_caller_and_bounded(
    tier: DiskTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_uses, "_MOST", 10)
    keys = [f"k{i}" for i in range(30)]
    tier.mset(entries(keys))
    for key in keys:
        tier.mget([key])
    assert len(tier.store._uses.by_row()) == 11
    written = threading.Event()
    monkeypatch.setattr(tier.store, "_log_size", lambda: written.set() or 0)
    tier.store._upkeep.within(0)
    assert written.wait(10)
    assert plant(tier, "UPDATE Tier_use SET used = used") == 11
    assert tier.store._uses.by_row() == {}


@pytest.mark.parametrize(
    "change",
    [
        "mode = 4",
        "mode = 2, filename = 'out/of/here.val'",
        "value = NULL, filename = '../../../etc/passwd', mode = 2",
        "value = 'text'",
    ],
)
def test_planted_row_is_a_miss_counted_and_deleted(tier: DiskTier, change: str) -> None:
    tier.mset(entries(["k", "l"]))
    assert plant(tier, f"UPDATE Cache SET {change} WHERE tag = ?", b"k") == 1  # noqa: S608 - constants
    assert tier.mget(["k", "l"]).keys() == {"l"}
    assert tier.counters()["corrupt"] == 1
    assert plant(tier, "UPDATE Cache SET raw = raw") == 1


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.mkdir, (os.environ["TIERCACHE_BOMB"],))


def test_planted_pickle_is_never_opened(
    tier: DiskTier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIERCACHE_BOMB", str(tmp_path / "exploded"))
    tier.mset(entries(["k"]))
    plant(tier, "UPDATE Cache SET mode = 4, value = ?", pickle.dumps(Bomb()))
    row_key = sqlite3.connect(tier.directory / "cache.db")
    ((digest,),) = row_key.execute("SELECT key FROM Cache").fetchall()
    row_key.close()
    engine = tier.store._database._engine
    assert engine.get(digest, default="miss") == "miss"  # diskcache's own road is shut as well
    engine.close()
    assert tier.mget(["k"]) == {}
    assert not (tmp_path / "exploded").exists()


def test_engine_stores_accepts_and_removes_nothing_but_rows_of_bytes(tmp_path: Path) -> None:
    directory = prepare(tmp_path / "d", read_only=False)
    create_database(directory, seconds=1, page_size=8192, now=1e9)
    engine = Engine(directory, seconds=1)
    engine.set("k", b"x" * 100_000)
    assert engine.get("k") == b"x" * 100_000
    for key, value in (("k", "text"), ("k", {"a": 1}), (("k",), b"x"), ("ä", b"x"), (1, b"x")):
        with pytest.raises(TypeError):
            engine.set(key, value)
    (tmp_path / "victim").write_text("x")
    engine._sql("UPDATE Cache SET mode = 2, filename = '../victim'")
    assert engine.get("k", default="miss") == "miss"
    engine.clear()
    assert (tmp_path / "victim").exists()
    assert sorted(path.name for path in directory.iterdir() if path.is_dir()) == []
    with pytest.raises(RefusedRow):
        engine.disk.get(pickle.dumps("k"), False)
    engine.close()
    engine.shut()


def test_corrupt_bytes_are_a_miss_and_deleted(tier: DiskTier) -> None:
    tier.mset(entries(["k", "l"]))
    plant(tier, "UPDATE Cache SET value = zeroblob(100) WHERE tag = ?", b"k")
    plant(tier, "UPDATE Cache SET value = (SELECT value FROM Cache WHERE tag = ?) WHERE tag = ?", b"l", b"k")
    assert tier.mget(["k", "l"]).keys() == {"l"}
    assert tier.counters()["corrupt"] == 1
    assert listed(tier) == ["l"]


def test_closed(tier: DiskTier) -> None:
    tier.mset(entries(["k"]))
    tier.close()
    tier.close()
    for call in (
        lambda: tier.mget(["k"]),
        lambda: tier.mset(entries(["k"])),
        lambda: tier.mdelete(["k"]),
        lambda: tier.scan(""),
        lambda: tier.clear(""),
        lambda: tier.purge("", what=Purge()),
    ):
        with pytest.raises(CacheClosed):
            call()


def open_files(directory: Path) -> list[str]:
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [name for link in links if (name := str(link.readlink())).startswith(str(directory))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_no_file_stays_open_with_ended_threads_or_after_close(tier: DiskTier) -> None:
    tier.mset(entries(["k"]))
    together = threading.Barrier(8)

    def use() -> None:
        together.wait(10)
        for _ in range(20):
            tier.mget(["k", "l"])

    for _ in range(3):
        threads = [threading.Thread(target=use) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert 0 < len(open_files(tier.directory)) <= 3 * 10  # a connection a caller at once, whoever they were
    tier.close()
    assert open_files(tier.directory) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_a_forgotten_tier_leaves_nothing_open(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "d")
    tier.mset(entries(["k"]))
    tier.mget(["k"])  # notes a use, which must not keep the tier alive
    assert open_files(tmp_path)
    del tier
    gc.collect()
    assert open_files(tmp_path) == []


def test_construction_opens_no_database(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "d")
    assert not (tmp_path / "d" / "cache.db").exists()
    assert tier.mget(["k"]) == {}
    tier.close()


def test_locked_database_times_out_for_writers_only(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, deadline="50ms")
    tier.mset(entries(["k"]))
    blocker = sqlite3.connect(tmp_path / "cache.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(TierTimeout, match="locked") as caught:
        tier.mset(entries(["l"]))
    assert caught.value.tier == "disk"
    with pytest.raises(TierTimeout):
        tier.mdelete(["k"])
    assert tier.mget(["k", "l"]).keys() == {"k"}
    other = DiskTier(tmp_path, deadline="50ms")  # opening an existing database takes no lock either
    assert other.mget(["k"]).keys() == {"k"}
    blocker.execute("ROLLBACK")
    tier.mset(entries(["l"]))
    assert other.mget(["l"]).keys() == {"l"}
    blocker.close()
    other.close()
    tier.close()


def test_a_second_opener_writes_nothing(tier: DiskTier) -> None:
    tier.mset(entries(["k"]))
    log = tier.directory / "cache.db-wal"
    before = log.stat().st_mtime_ns, log.stat().st_size
    other = DiskTier(tier.directory, durability="power")
    assert other.mget(["k"]).keys() == {"k"}
    assert (log.stat().st_mtime_ns, log.stat().st_size) == before
    other.close()


@pytest.mark.parametrize(("durability", "level"), [("process", 1), ("power", 2)])
def test_pragmas(tmp_path: Path, durability: str, level: int) -> None:
    tier = DiskTier(tmp_path, durability=durability)  # type: ignore[arg-type]  # both are literals
    neighbour = DiskTier(tmp_path, durability="power" if durability == "process" else "process")
    wanted = {
        "page_size": 32768,
        "auto_vacuum": 2,
        "journal_mode": "wal",
        "synchronous": level,
        "wal_autocheckpoint": 0,
    }
    tier.mset(entries(["k"]))
    neighbour.mset(entries(["l"]))
    tier.store._database._engine.disconnect()

    def looked(connection: sqlite3.Connection) -> dict[str, object]:
        return {name: connection.execute(f"PRAGMA {name}").fetchone()[0] for name in wanted}

    assert tier.store._database._engine.call(looked, time.monotonic() + 5) == wanted
    tier.close()
    neighbour.close()


def test_small_budgets_get_small_pages_and_pages_that_are_there_stay(tmp_path: Path) -> None:
    small = DiskTier(tmp_path / "small", max_bytes="2MiB")
    large = DiskTier(tmp_path / "large", max_bytes="256MiB")
    for tier, size in (small, 8192), (large, 32768):
        tier.mset(entries(["k"]))
        assert int.from_bytes((tier.directory / "cache.db").read_bytes()[16:18]) == size
        tier.close()
    # A bound is kept in pages of either size.
    for name in "small", "large":
        tier = DiskTier(tmp_path / name, max_bytes="2MiB")
        for number in range(600):
            tier.mset({f"k{number}": Entry(random.Random(number).randbytes(6144))})
        assert 150 < len(tier.mget([f"k{number}" for number in range(600)])) < 320
        tier.close()
        assert (tier.directory / "cache.db").stat().st_size <= 2**21 + 3 * 32768


def test_too_large_is_refused_and_the_rest_kept(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path, max_bytes="1MiB")
    with pytest.raises(EntryRejected, match=r"max_bytes=1048576") as caught:
        tier.mset({"big": Entry(b"x" * 2**20), "small": Entry(b"x")})
    assert caught.value.keys == ("big",)
    assert tier.mget(["big", "small"]).keys() == {"small"}
    tier.close()


def test_values_are_bytes(tier: DiskTier) -> None:
    with pytest.raises(TypeError, match="stores bytes, not str"):
        tier.mset({"k": Entry("text")})
    assert json.dumps(listed(tier)) == "[]"
