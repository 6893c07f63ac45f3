"""`SQLTier` against real databases, blocking and awaited."""

from __future__ import annotations

import os
import time

import pytest
from selections import usually
from servers.databases import Database
from sqlalchemy import create_engine

from tiercache.entry import Entry
from tiercache.errors import CacheClosed, ConfigError, EntryRejected, TierUnavailable
from tiercache.protocols import Purge
from tiercache.testing import FakeClock
from tiercache.tiers.sql import SQLTier

STRANGE = [
    "",
    "a/b",
    "a\nb",
    "a",
    "a\0",
    "a\0b",
    "\ud800",
    "\ud83d\ude00",
    "😀",
    "é",
    "é",
    "%",
    "_",
    "'",
    '"',
    "x" * 10_000,
]


@pytest.mark.parametrize("size", usually({0, 1, 5000}, [0, 1, 1000, 5000]))
def test_batches_of_any_size(database: Database, size: int) -> None:
    tier = database.tier()
    values = {f"key {n}": b"value %d" % n for n in range(size)}
    database.put(tier, values)
    assert database.get(tier, [*values, "absent"]) == values
    odd = [f"key {n}" for n in range(1, size, 2)]
    database.call(tier, "mdelete", [*odd, "absent"])
    assert database.get(tier, list(values)) == {key: values[key] for key in values if key not in set(odd)}


def test_strange_keys_stay_apart(database: Database) -> None:
    tier = database.tier()
    values = {key: repr(key).encode() for key in STRANGE}
    database.put(tier, values)
    assert database.get(tier, STRANGE) == values
    assert sorted(database.keys(tier)) == sorted(set(STRANGE))
    assert database.keys(tier, "a") == ["a", "a\0", "a\0b", "a\nb", "a/b"]
    assert database.keys(tier, "a\0") == ["a\0", "a\0b"]
    assert database.keys(tier, "\ud83d") == ["\ud83d\ude00"]
    assert database.keys(tier, "%") == ["%"]


def test_the_last_write_wins(database: Database) -> None:
    tier = database.tier()
    database.put(tier, {"k": b"old", "other": b"stays"})
    database.put(tier, {"k": b"new"})
    assert database.get(tier, ["k", "other"]) == {"k": b"new", "other": b"stays"}
    assert database.rows() == 2


def test_large_and_empty_values(database: Database) -> None:
    tier = database.tier()
    values = {f"k{n}": os.urandom(2**20) for n in range(9)} | {"empty": b"", "nul": b"\0" * 100}
    database.put(tier, values)
    assert database.get(tier, list(values)) == values


def test_times_survive(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock)
    entry = Entry(b"v", clock.time() + 60.25, clock.time(), clock.time() + 30.125, "text")
    database.call(tier, "mset", {"k": entry, "forever": Entry(b"w")})
    found = database.call(tier, "mget", ["k", "forever"])
    assert (found["k"].expires_at, found["k"].created_at, found["k"].fresh_until, found["k"].codec) == (
        entry.expires_at, entry.created_at, entry.fresh_until, "text",
    )  # fmt: skip
    assert found["forever"].expires_at is None


def test_an_expired_entry_is_a_miss_and_counted(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock)
    database.put(tier, {"k": b"v"}, clock.time() + 10)
    clock.advance(10)
    assert database.get(tier, ["k"]) == {}
    assert database.keys(tier) == []
    assert tier.counters()["expirations"] == 1


def test_expired_rows_are_pruned_behind_writes(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock)
    database.put(tier, {f"old {n}": b"v" for n in range(1500)}, clock.time() + 10)
    database.put(tier, {"live": b"v"}, clock.time() + 1000)
    clock.advance(11)
    database.put(tier, {f"new {n}": b"v" for n in range(300)})
    database.put(tier, {f"more {n}": b"v" for n in range(300)})
    assert database.rows() == 601
    assert tier.counters()["expirations"] == 1500
    assert tier.counters()["evictions"] == 0


def test_the_bound_of_entries_is_kept(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock, max_entries=100)
    for n in range(30):
        clock.advance(1)
        database.put(tier, {f"{n} {m}": b"v" for m in range(7)})
        assert database.rows() <= 100
    kept = database.keys(tier)
    assert len(kept) >= 95 - 7
    assert {f"29 {m}" for m in range(7)} <= set(kept)
    assert "0 0" not in kept
    assert tier.counters()["evictions"] == 210 - len(kept)


def test_the_bound_of_bytes_is_kept_and_what_never_fits_is_refused(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock, max_bytes=20_000)
    for n in range(12):
        clock.advance(1)
        database.put(tier, {f"{n}": os.urandom(2000)})
    assert int(database.execute("SELECT SUM(size) FROM {t}")[0][0]) <= 20_000
    with pytest.raises(EntryRejected) as caught:
        database.put(tier, {"small": b"s", "large": bytes(20_000)})
    assert caught.value.keys == ("large",)
    assert caught.value.tier == "sql"
    assert database.get(tier, ["small", "large", "11", "0"]).keys() == {"small", "11"}


def test_a_full_table_that_others_filled_is_brought_within_bounds(database: Database) -> None:
    database.put(database.tier(), {f"k{n}": b"v" for n in range(3000)})
    tier = database.tier(max_entries=50)
    database.put(tier, {"last": b"v"})
    assert database.rows() <= 50
    assert database.get(tier, ["last"]) == {"last": b"v"}


def test_overwrites_alone_evict_nothing(database: Database) -> None:
    tier = database.tier(max_entries=10)
    for n in range(10):
        database.put(tier, {f"k{m}": b"%d" % n for m in range(10)})
    assert database.rows() == 10
    assert tier.counters()["evictions"] == 0


def test_listing_goes_page_by_page(database: Database) -> None:
    tier = database.tier()
    long = "n" * 250  # past what is indexed: all these keys share their first 200 bytes
    keys = [f"{long}{n:03}" for n in range(57)] + [f"m{n}" for n in range(5)]
    database.put(tier, dict.fromkeys(keys, b"v"))
    assert sorted(database.keys(tier, limit=10)) == sorted(keys)
    assert sorted(database.keys(tier, long + "00", limit=3)) == keys[:10]
    assert sorted(database.keys(tier, "", skip=long + "0", limit=7)) == sorted(keys[-5:])
    assert database.keys(tier, "o") == []
    assert database.keys(tier, long + "x") == []


def test_clear_drops_its_range_alone(database: Database) -> None:
    tier = database.tier()
    values = {f"a{n}": b"v" for n in range(2100)} | {"a/x": b"v", "b": b"v", "\ud800": b"v"}
    database.put(tier, values)
    database.call(tier, "clear", "a", skip="a/")
    assert sorted(database.keys(tier)) == sorted(["a/x", "b", "\ud800"])
    database.call(tier, "clear", "")
    assert database.rows() == 0


def test_purge_by_age_and_expiry(database: Database) -> None:
    clock = FakeClock()
    tier = database.tier(clock=clock)
    database.put(tier, {"n/expired": b"v"}, clock.time() + 5)
    database.put(tier, {"n/old": b"v", "m/old": b"v", "n/s/old": b"v"})
    clock.advance(9)
    database.put(tier, {"n/new": b"v"})
    purge = [tier, "purge", "n/"]
    with pytest.raises(ConfigError, match=r"^purge: .*older_than="):
        database.call(*purge, what=Purge(expired=False, idle=1))
    assert database.call(*purge, what=Purge()) == 1
    assert database.call(*purge, skip="n/s/", what=Purge(older_than=5)) == 1
    assert sorted(database.keys(tier)) == ["m/old", "n/new", "n/s/old"]
    assert tier.counters()["expirations"] == 1


def test_a_damaged_row_is_a_miss_and_dropped(database: Database) -> None:
    tier = database.tier()
    database.put(tier, {"k": bytes(500), "other": b"v"})
    database.execute("UPDATE {t} SET value = 'garbage' WHERE size > 500")  # in SQLite: text, no bytes
    assert database.get(tier, ["k", "other"]) == {"other": b"v"}
    assert tier.counters()["corrupt"] == 1
    assert database.rows() == 1


def test_another_tier_finds_what_the_first_stored(database: Database) -> None:
    first = database.tier()
    database.put(first, {"k": b"v"})
    first.close()
    assert database.get(database.tier(create=False), ["k"]) == {"k": b"v"}


def test_a_table_of_a_newer_format_is_refused(database: Database) -> None:
    database.put(database.tier(), {"k": b"v"})
    database.execute("UPDATE {t}_meta SET value = '2' WHERE name = 'format'")
    with pytest.raises(TierUnavailable, match=r"format 2.*newer version.*upgrade"):
        database.get(database.tier(), ["k"])


def test_a_missing_table_is_an_error_without_create(database: Database) -> None:
    tier = database.tier(create=False)
    with pytest.raises(TierUnavailable, match="create=False") as caught:
        database.get(tier, ["k"])
    assert caught.value.tier == "sql"
    database.put(database.tier(), {"k": b"v"})
    assert database.get(tier, ["k"]) == {"k": b"v"}


def test_a_table_of_somebody_else_is_left_alone(database: Database) -> None:
    database.execute("CREATE TABLE {t} (a INTEGER)")
    with pytest.raises(TierUnavailable, match="not made by tiercache"):
        database.put(database.tier(), {"k": b"v"})
    assert database.rows() == 0


def test_a_dropped_table_is_made_again(database: Database) -> None:
    tier = database.tier()
    database.put(tier, {"k": b"v"})
    database.execute("DROP TABLE {t}")
    with pytest.raises(TierUnavailable):
        database.get(tier, ["k"])
    assert database.get(tier, ["k"]) == {}
    database.put(tier, {"k": b"w"})
    assert database.get(tier, ["k"]) == {"k": b"w"}


def test_a_closed_tier_says_so(database: Database) -> None:
    tier = database.tier()
    database.put(tier, {"k": b"v"})
    database.call(tier, "close")
    database.call(tier, "close")
    calls = [("mget", ["k"]), ("mget", []), ("mset", {}), ("mdelete", []), ("scan", ""), ("clear", "")]
    for verb, argument in calls:
        with pytest.raises(CacheClosed):
            database.call(tier, verb, argument)
    with pytest.raises(CacheClosed):
        database.call(tier, "purge", "", what=Purge())


def test_a_given_engine_is_used_and_left_open(blocking: Database) -> None:
    engine = create_engine(blocking.url)
    try:
        tier = blocking.tier(url=engine)
        assert not hasattr(tier, "amget")
        values = {f"k{n}": b"v" for n in range(1200)}
        blocking.put(tier, values)
        assert blocking.rows() == 1200  # committed
        blocking.call(tier, "mdelete", ["k0"])
        assert blocking.get(tier, list(values)).keys() == values.keys() - {"k0"}
        assert len(blocking.keys(tier, "k1", limit=50)) == 311
        blocking.call(tier, "clear", "")
        assert blocking.rows() == 0
        pool = engine.pool
        tier.close()
        assert engine.pool is pool  # disposing would have replaced it
        with engine.connect() as connection:
            assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    finally:
        engine.dispose()


def test_the_row_on_the_server_says_when_it_was_written(blocking: Database) -> None:
    before = time.time()
    tier = blocking.tier()
    blocking.put(tier, {"k": b"v"}, before + 60)
    tier.mset({"older": Entry(b"v", before + 60, created_at=before - 1000)})
    (older, expires_at), (newer, _) = blocking.execute(
        "SELECT written_at, expires_at FROM {t} ORDER BY written_at"
    )
    assert older == before - 1000
    assert before <= newer <= time.time()
    assert expires_at == before + 60


def test_scan_and_clear_are_offered_blocking_and_awaited(postgres_url: str) -> None:
    tier = SQLTier(postgres_url)
    verbs = ["mget", "mset", "mdelete", "close", "scan", "clear", "purge"]
    assert all(hasattr(tier, verb) and hasattr(tier, f"a{verb}") for verb in verbs)
    tier.close()
