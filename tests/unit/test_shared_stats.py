"""Statistics that processes share in a file: what is written, when, by whom, and what cannot go wrong."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import json
import logging
import os
import sqlite3
import stat
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import pythons

from tiercache import (
    ConfigError,
    DiskTier,
    MemoryTier,
    TieredCache,
    _counted,
    _processes,
    _sharing,
    guarded,
    shared_stats,
)
from tiercache._counted import plain
from tiercache.shared_stats import EARLIER, KEPT_FOR, MOST_ENDED, Record, StatsFile, Unreadable, summed
from tiercache.testing import DictTier

NOBODY = 2**22 + 1  # more than any process number


@pytest.fixture(autouse=True)
def writer(monkeypatch):
    """A thread that has nothing to do with caches of other tests, and that looks at nothing by itself."""
    own = _sharing._Writer()
    monkeypatch.setattr(_sharing, "_writer", own)
    monkeypatch.setattr(_sharing, "SECONDS", 600.0)
    yield own
    with own._changed:
        own._sharing.clear()
        own._forgotten.clear()
        own._changed.notify_all()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "stats.db"


def shared(path, **options):
    return TieredCache([MemoryTier(), DictTier("below")], stats_file=path, **options)


def only(path):
    (record,) = StatsFile(path).read()
    return record


def publish(cache):
    """What the thread does now and then."""
    cache._stack.sharing.publish(5.0)


def in_child(work):
    """Call ``work`` in a forked child; fail if it did."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a child must not go on with the tests
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def record(token, *, updated, ended=True, hits=1, **more):
    stats = TieredCache([DictTier("below")]).stats()
    counted = plain(replace(stats, hits=hits, tiers=(replace(stats.tiers[0], hits=hits),)))
    where = _processes.place()
    whole = Record(token, NOBODY, where, "", "app", updated, updated, updated if ended else None, counted)
    return replace(whole, **more)


# -- what is written, and when ---------------------------------------------------------------------


def test_closing_writes_what_was_counted(path):
    with shared(path, namespace="app") as cache:
        cache.set("a", b"1")
        cache.mget(["a", "a", "b"])
        cache.get("a")
        cache.get_or_load("c", lambda _: b"2")
        counted = plain(cache.stats())
    found = only(path)
    assert (found.pid, found.cache, found.state) == (os.getpid(), "app", "ended")
    assert found.started <= found.updated == found.ended
    for name in ("hits", "misses", "loads"):
        assert found.stats[name] == counted[name]
    assert (found.stats["hits"], found.stats["misses"], found.stats["loads"]) == (3, 2, 1)
    assert [tier["name"] for tier in found.stats["tiers"]] == ["memory", "below"]
    assert [tier["sets"] for tier in found.stats["tiers"]] == [2, 2]


def test_closing_by_aclose_writes_too(path):
    async def use():
        async with shared(path) as cache:
            await cache.aset("a", b"1")
            await cache.aget("a")

    asyncio.run(use())
    assert (only(path).stats["hits"], only(path).state) == (1, "ended")


def test_a_thread_writes_behind_the_callers_also_what_memory_alone_answered(path, monkeypatch):
    monkeypatch.setattr(_sharing, "SECONDS", 0.01)
    written = threading.Event()
    write, awaited = StatsFile.write, [0]

    def tell(file, row, *, seconds):
        write(file, row, seconds=seconds)
        if row.stats["hits"] >= awaited[0]:
            written.set()

    monkeypatch.setattr(StatsFile, "write", tell)
    with shared(path) as cache:
        cache.set("a", b"1")
        assert written.wait(60)
        assert only(path).state == "running"
        awaited[0] = 7
        written.clear()
        for _ in range(7):
            cache.get("a")  # by the fast road, which knows of nothing
        assert written.wait(60)
        assert only(path).stats["hits"] == 7
    assert only(path).state == "ended"


def test_one_thread_for_all_caches_which_ends_with_the_last(tmp_path):
    before = set(threading.enumerate())
    first, second = (shared(tmp_path / f"{name}.db") for name in "ab")
    assert set(threading.enumerate()) <= before  # none before it is needed
    first.set("a", b"1")
    second.set("a", b"1")
    (thread,) = set(threading.enumerate()) - before
    assert thread.daemon
    first.close()
    assert thread.is_alive()
    second.close()
    thread.join(60)
    assert not thread.is_alive()


def test_nothing_is_written_when_nothing_was_counted_since(path, monkeypatch):
    with shared(path) as cache:
        publish(cache)
        assert not path.exists()
        cache.set("a", b"1")
        publish(cache)
        rows = []
        monkeypatch.setattr(StatsFile, "write", lambda _file, row, *, seconds: rows.append((row, seconds)))
        publish(cache)
        assert rows == []
        cache.get("a")
        publish(cache)
        assert [row.stats["hits"] for row, _ in rows] == [1]
    with shared(path):
        pass
    assert len(rows) == 2  # and the last one of the first cache


def test_a_cache_that_was_dropped_is_marked_as_ended(path, writer):
    cache = shared(path)
    cache.set("a", b"1")
    publish(cache)
    assert only(path).state == "running"
    del cache
    gc.collect()
    writer._settle()
    assert only(path).state == "ended"


@pytest.mark.parametrize("at_once", [0, 2])
def test_after_closing_nothing_touches_the_file(path, writer, at_once):
    """Its directory may be removed, with the cache's other files. First calls may come ``at_once``."""
    cache = shared(path)
    for _ in range(at_once):  # each saw that it was not awake
        cache._stack.sharing.wake()
    cache.set("a", b"1")
    publish(cache)
    cache.close()
    path.unlink()
    del cache
    gc.collect()
    writer._settle()
    assert not path.exists()


def test_a_first_call_that_closing_overtakes_leaves_nothing_behind(path, writer, monkeypatch):
    cache = shared(path)
    sharing, add = cache._stack.sharing, writer.add
    monkeypatch.setattr(writer, "add", lambda one: (cache.close(), add(one)))
    sharing.wake()
    assert not writer._sharing
    assert not sharing._if_dropped.alive


def test_after_closing_no_late_look_takes_the_end_back(path):
    cache = shared(path)
    cache.set("a", b"1")
    cache.close()
    cache._stack.counters.misses += 1  # by who was in the middle of a call
    publish(cache)
    assert (only(path).state, only(path).stats["misses"]) == ("ended", 0)


def test_views_and_caches_over_them_share_one_row(path):
    with shared(path) as cache:
        cache.view("a").set("k", b"1")
        cache.view("b").get("k")
    assert (only(path).stats["misses"], only(path).stats["tiers"][1]["sets"]) == (1, 1)


def test_any_namespace_is_written(path):
    with shared(path, namespace="a\ud800\0\n" + "x" * 1000) as cache:
        cache.set("a", b"1")
    assert only(path).cache.startswith("a\\ud800\0\nxxx")
    assert len(only(path).cache) == 200


def opened(folder):
    folder.mkdir()
    folder.chmod(0o777)
    return folder


# -- where -----------------------------------------------------------------------------------------


def test_in_the_directory_of_the_disk_tier_unless_told_otherwise(tmp_path):
    for name, options in (
        ("default", {}),
        ("off", {"stats_file": None}),
        ("set", {"stats_file": tmp_path / "s"}),
    ):
        with TieredCache([MemoryTier(), DiskTier(tmp_path / name)], **options) as cache:
            cache.set("a", b"1")
    assert only(tmp_path / "default" / "stats.db").stats["tiers"][1]["name"] == "disk"
    assert not (tmp_path / "off" / "stats.db").exists()
    assert not (tmp_path / "set" / "stats.db").exists()
    assert only(tmp_path / "s").stats["tiers"][1]["sets"] == 1
    DiskTier(tmp_path / "default").close()  # whose directory is still its own


def test_a_guarded_disk_tier_names_its_file_too(tmp_path):
    with TieredCache([guarded(DiskTier(tmp_path / "d"), deadline=60)]) as cache:
        cache.set("a", b"1")
    assert only(tmp_path / "d" / "stats.db").stats["tiers"][0]["sets"] == 1


def test_a_read_only_disk_tier_shares_nothing(tmp_path):
    DiskTier(tmp_path / "d").close()
    names = {item.name for item in (tmp_path / "d").iterdir()}
    with TieredCache([DiskTier(tmp_path / "d", read_only=True)]) as cache:
        cache.get("a")
    assert {item.name for item in (tmp_path / "d").iterdir()} == names


def test_the_file_and_its_new_folders_are_private(tmp_path):
    before = os.umask(0)
    try:
        with shared(tmp_path / "new" / "deep" / "stats.db") as cache:
            cache.set("a", b"1")
    finally:
        os.umask(before)
    modes = [tmp_path / "new", tmp_path / "new" / "deep", tmp_path / "new" / "deep" / "stats.db"]
    assert [stat.S_IMODE(item.stat().st_mode) for item in modes] == [0o700, 0o700, 0o600]
    assert [item.name for item in (tmp_path / "new" / "deep").iterdir()] == ["stats.db"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: opened(folder / "open") / "s", "alone to write"),
        (lambda folder: (folder / "link").symlink_to(folder / "victim") or folder / "link", "no plain file"),
        (lambda folder: folder, "no plain file"),
        (lambda folder: (folder / "file").write_text("") or folder / "file" / "s", "stats_file: "),
        (lambda _folder: "", "no path"),
        (lambda _folder: "a\0b", "no path"),
        (lambda _folder: 3, "no path"),
        (lambda _folder: "~no-such-user/s", "home directory"),
    ],
)  # fmt: skip
def test_a_wrong_place_is_refused_at_once(tmp_path, make, message):
    with pytest.raises(ConfigError, match=message):
        shared(make(tmp_path))
    assert not (tmp_path / "victim").exists()


def test_a_configuration_says_where_relative_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = tmp_path / "tiercache.json"
    config.write_text(json.dumps({"tiers": [{"type": "memory"}], "stats_file": "s.db"}))
    with TieredCache.from_config(config) as cache:
        cache.set("a", b"1")
        assert cache.config()["stats_file"] == str(tmp_path / "s.db")
    assert only(tmp_path / "s.db").stats["tiers"][0]["sets"] == 1
    config.write_text(json.dumps({"tiers": [{"type": "disk", "path": "d"}], "stats_file": "none"}))
    with TieredCache.from_config(config) as cache:
        cache.set("a", b"1")
    assert not (tmp_path / "d" / "stats.db").exists()


# -- what fails ------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [b"rubbish" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_set_aside(path, damage, caplog):
    with shared(path) as cache:
        cache.set("a", b"1")
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING, "tiercache"), shared(path) as cache:
        cache.set("a", b"1")
    assert path.with_name("stats.db.damaged").read_bytes() == damage
    assert [row.getMessage() for row in caplog.records if "are damaged" in row.getMessage()]
    assert only(path).stats["tiers"][0]["sets"] == 1


def test_a_file_that_another_process_exchanged_meanwhile_is_no_damaged_one(path, monkeypatch):
    path.write_bytes(b"rubbish" * 1000)
    is_damage = shared_stats._is_damage

    def slow(error):
        monkeypatch.setattr(shared_stats, "_is_damage", is_damage)
        StatsFile(path).write(record("another", updated=1.0), seconds=5)
        return is_damage(error)

    monkeypatch.setattr(shared_stats, "_is_damage", slow)
    StatsFile(path).write(record("mine", updated=2.0), seconds=5)
    assert {one.token for one in StatsFile(path).read()} == {"another", "mine"}
    assert path.with_name("stats.db.damaged").read_bytes() == b"rubbish" * 1000


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX], ids=["uses", "exchanges"])
def test_nobody_exchanges_a_file_that_another_process_has_in_hand(path, kind):
    path.write_bytes(b"rubbish" * 1000)
    folder = os.open(path.parent, os.O_RDONLY)
    fcntl.flock(folder, kind)
    with pytest.raises(TimeoutError):
        StatsFile(path).write(record("mine", updated=2.0), seconds=0.01)
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    os.close(folder)
    StatsFile(path).write(record("mine", updated=2.0), seconds=5)
    assert len(StatsFile(path).read()) == 1


def test_who_reads_or_writes_has_the_file_in_hand(path, monkeypatch):
    """Or its log could become that of another file."""
    is_ours, held = shared_stats._is_ours, []

    def look(connection):
        folder = os.open(path.parent, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(folder)
        held.append(True)
        return is_ours(connection)

    monkeypatch.setattr(shared_stats, "_is_ours", look)
    StatsFile(path).write(record("mine", updated=2.0), seconds=5)
    assert only(path).updated == 2.0
    assert len(held) == 2


def test_damage_deep_in_the_file_is_found_and_set_aside(path):
    for number in range(20):
        StatsFile(path).write(record(f"{number:02}", updated=1.0), seconds=5)
    pages = bytearray(path.read_bytes())
    size, root = int.from_bytes(pages[16:18]), 2
    last = int.from_bytes(pages[(root - 1) * size + 8 : (root - 1) * size + 12])  # the page of the last rows
    pages[(last - 1) * size : last * size] = b"\xff" * size
    path.write_bytes(pages)
    StatsFile(path).write(record("00", updated=2.0), seconds=5)
    assert len(StatsFile(path).read()) == 1
    assert path.with_name("stats.db.damaged").read_bytes() == pages


def test_a_file_without_its_table_is_set_aside(path):
    with shared(path) as cache:
        cache.set("a", b"1")
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE processes")
    connection.close()
    with shared(path) as cache:
        cache.set("a", b"1")
    assert only(path).state == "ended"
    assert path.with_name("stats.db.damaged").exists()


def test_somebody_elses_database_is_left_as_it_is(path, caplog):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = path.read_bytes()
    with shared(path) as cache:
        cache.set("a", b"1")
        publish(cache)
        assert cache.get("a") == b"1"
    assert path.read_bytes() == before
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    told = [row.getMessage() for row in caplog.records if row.levelno == logging.WARNING]
    assert len(told) == 1
    assert "of something else" in told[0]
    with pytest.raises(Unreadable, match="of something else"):
        StatsFile(path).read()


def test_a_later_format_is_left_alone(path):
    with shared(path) as cache:
        cache.set("a", b"1")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    before = path.read_bytes()
    with shared(path) as cache:
        cache.set("a", b"1")
    assert path.read_bytes() == before
    with pytest.raises(Unreadable, match="upgrade tiercache-framework"):
        StatsFile(path).read()


def test_a_lock_or_a_missing_folder_costs_a_snapshot_and_no_call(path, monkeypatch):
    monkeypatch.setattr(_sharing, "_PATIENCE_AT_THE_END", 0.01)
    with shared(path) as cache:
        cache.set("a", b"1")
        publish(cache)
        lock = sqlite3.connect(path, isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        cache.get("a")
        cache._stack.sharing.publish(0.01)
        lock.execute("ROLLBACK")
        lock.close()
        assert only(path).stats["hits"] == 0
        publish(cache)
        assert only(path).stats["hits"] == 1
        path.unlink()
        path.parent.rename(path.parent.with_name("moved"))
        cache.get("a")
        publish(cache)
    assert not path.parent.exists()
    path.parent.with_name("moved").rename(path.parent)


def test_a_lock_holds_up_the_exit_once_for_all_caches(path, writer, monkeypatch):
    now, waited = [0.0], []

    def wait(_file, _row, *, seconds):
        waited.append(seconds)
        now[0] += seconds
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(_sharing, "_all", weakref.WeakSet())
    monkeypatch.setattr(_sharing, "monotonic", lambda: now[0])
    monkeypatch.setattr(StatsFile, "write", wait)
    caches = [shared(path) for _ in range(10)]
    for cache in caches:
        cache.set("a", b"1")
    writer.end()
    assert waited == pytest.approx([0.3, 0.3, 0.3, 0.1])


def test_the_exit_does_not_wait_for_the_thread(path, writer, monkeypatch):
    monkeypatch.setattr(_sharing, "_all", weakref.WeakSet())
    monkeypatch.setattr(_sharing, "_PATIENCE_AT_EXIT", 0.01)
    cache = shared(path)
    cache.set("a", b"1")
    writes, goes_on = threading.Event(), threading.Event()

    def write(_file, _row, *, seconds):
        writes.set()
        goes_on.wait(60)

    monkeypatch.setattr(StatsFile, "write", write)
    with ThreadPoolExecutor(1) as pool:
        look = pool.submit(publish, cache)
        assert writes.wait(60)
        writer.end()
        assert not look.done()
        goes_on.set()


@pytest.mark.parametrize(
    "damage",
    [
        *(f"stats = '{text}'" for text in ("", "{}", "[]", '{"tiers": [1]}', '{"tiers": [], "hits": "x"}')),
        "stats = NULL", "stats = CAST(x'ff' AS TEXT)",
        """stats = replace(stats, '"owed": 0', '"owed": null')""",
        """stats = replace(stats, '"hits": 1', '"hits": 1e999')""",
        *(
            f"""stats = replace(stats, '"load_times": {{}}', '"load_times": {wrong}')"""
            for wrong in ('{"x": 1}', '{"-1": 1}', '{"1": -1}', '{"1": 0.5}', "[1]", "3")
        ),
        "pid = 'many'", "place = NULL", "born = x'ff'", "cache = x'ff'", "started = 'soon'",
        "updated = NULL", "updated = 'now'", "updated = 9e999", "ended = x''",
    ],
)  # fmt: skip
def test_a_row_that_makes_no_sense_is_left_out(path, damage):
    file = StatsFile(path)
    file.write(record("damaged", updated=2.0, ended=False), seconds=5)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE processes SET {damage}")  # noqa: S608 - of this test
    connection.close()
    file.write(record("good", updated=10 * KEPT_FOR), seconds=5)
    file.write(record("better", updated=10 * KEPT_FOR), seconds=5)
    assert {one.token for one in file.read()} == {"good", "better"}


def test_what_an_earlier_version_did_not_count_is_zero(path):
    old = record("old", updated=1.0)
    del old.stats["unstorable"], old.stats["tiers"][0]["foreign"]
    StatsFile(path).write(old, seconds=5)
    assert (only(path).stats["unstorable"], only(path).stats["tiers"][0]["foreign"]) == (0, 0)


# -- many ------------------------------------------------------------------------------------------


def test_rows_of_processes_that_ended_long_ago_are_folded(path):
    now, file = 10 * KEPT_FOR, StatsFile(path)
    file.write(record("old", updated=1.0, hits=1), seconds=5)
    file.write(record("killed", updated=2.0, hits=2, ended=False), seconds=5)
    file.write(record("far", updated=3.0, hits=4, ended=False, place="another machine"), seconds=5)
    file.write(record("recent", updated=now - 10, hits=8), seconds=5)
    file.write(record("last", updated=now, hits=16), seconds=5)
    found = {one.token: one.stats["hits"] for one in file.read()}
    assert found == {"last": 16, "recent": 8, EARLIER: 7}
    file.write(record("next", updated=now + 2 * KEPT_FOR, hits=32), seconds=5)
    found = {one.token: one.stats["tiers"][0]["hits"] for one in file.read()}
    assert found == {"next": 32, EARLIER: 31}
    assert summed(file.read())["hits"] == 63


def test_a_running_process_is_never_folded(path):
    file = StatsFile(path)
    mine = {"pid": os.getpid(), "born": _processes.born(os.getpid())}
    file.write(record("mine", updated=1.0, ended=False, **mine), seconds=5)
    file.write(record("other", updated=10 * KEPT_FOR), seconds=5)
    assert [(one.token, one.state) for one in file.read()] == [("mine", "running"), ("other", "ended")]


def test_the_number_of_rows_is_bounded(path):
    file = StatsFile(path)
    for number in range(3 * MOST_ENDED):
        file.write(record(f"{number}", updated=float(number)), seconds=5)
    records = file.read()
    assert MOST_ENDED // 2 <= len(records) <= MOST_ENDED + 1
    assert records[0].token == f"{3 * MOST_ENDED - 1}"
    assert records[-1].token == EARLIER
    assert summed(records)["hits"] == 3 * MOST_ENDED


def test_processes_that_run_cost_a_write_nothing_however_many_they_are(path, monkeypatch):
    file = StatsFile(path)
    mine = {"pid": os.getpid(), "born": _processes.born(os.getpid()), "ended": False}
    for number in range(MOST_ENDED):
        file.write(record(f"{number}", updated=1.0, **mine), seconds=5)
    parsed, parse = [], json.loads
    file.write(record("one", updated=10 * KEPT_FOR, **mine), seconds=5)
    monkeypatch.setattr(_counted.json, "loads", lambda text: parsed.append(text) or parse(text))
    file.write(record("one", updated=10 * KEPT_FOR, **mine), seconds=5)
    assert parsed == []
    file.write(record("new", updated=10 * KEPT_FOR, **mine), seconds=5)
    assert set(parsed) == {'{"tiers": []}'}
    assert len(file.read()) == MOST_ENDED + 2


def test_a_number_that_another_process_has_by_now_is_not_the_one_that_wrote(path):
    StatsFile(path).write(record("x", updated=1.0, ended=False, pid=os.getpid(), born="another"), seconds=5)
    assert only(path).state == "ended"
    StatsFile(path).write(record("x", updated=1.0, ended=False, place="elsewhere"), seconds=5)
    assert only(path).state == "elsewhere"


def test_the_sum_of_states_is_of_running_processes():
    mine = {"pid": os.getpid(), "born": _processes.born(os.getpid()), "ended": False, "updated": 1.0}
    one, two = (record(name, **mine) for name in ("one", "two"))
    gone = record("gone", updated=1.0)
    names = ("owed", "open_circuits", "entries", "bytes")
    for states, values in ((one, (2, 1, 10, 100)), (two, (3, 1, 20, None)), (gone, (9, 1, 40, 400))):
        states.stats["tiers"][0].update(zip(names, values, strict=True))
    (tier,) = summed([one, two, gone])["tiers"]
    assert [tier[name] for name in (*names, "hits")] == [3, 2, 30, 100, 3]


# -- forks -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_has_a_row_of_what_it_counted_itself(path):
    cache = shared(path)
    cache.set("a", b"1")
    cache.get("a")
    publish(cache)

    def child():
        cache.get("a")
        cache.get("a")
        cache.get("absent")
        cache.close()

    in_child(child)
    cache.get("a")
    cache.close()
    rows = {one.pid == os.getpid(): one.stats for one in StatsFile(path).read()}
    assert (rows[True]["hits"], rows[True]["misses"]) == (2, 0)
    assert (rows[False]["hits"], rows[False]["misses"]) == (2, 1)
    assert [tier["hits"] for tier in rows[False]["tiers"]] == [2, 0]
    assert rows[False]["tiers"][0]["sets"] == 0
    assert len(rows) == 2


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_ends_no_row_of_its_parent(path, writer):
    cache = shared(path)
    cache.set("a", b"1")
    publish(cache)

    def child():
        nonlocal cache
        del cache
        gc.collect()
        writer._settle()
        writer.end()

    in_child(child)
    assert only(path).state == "running"
    cache.close()


class Telling(DictTier):
    """Counts its evictions, which are whatever it is told."""

    evictions = asked = 0

    def counters(self):
        self.asked += 1
        return {"evictions": self.evictions}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_asks_no_tier_before_it_uses_one(path, writer):
    """A thread of its parent may hold the tier's lock, for ever."""
    tier = Telling("telling")
    cache = TieredCache([MemoryTier(), tier], stats_file=path)
    cache.set("a", b"1")
    tier.asked, tier.evictions = 0, 5

    def idle():
        writer.end()
        assert tier.asked == 0

    def busy():
        assert cache.get("a") == b"1"
        assert tier.asked == 0
        cache.set("b", b"2")
        tier.evictions += 2
        cache.close()

    in_child(idle)
    assert not path.exists()
    in_child(busy)
    row = only(path)
    assert (row.stats["hits"], [one["evictions"] for one in row.stats["tiers"]]) == (1, [0, 2])
    cache.close()


# -- processes -------------------------------------------------------------------------------------


def test_a_process_that_closes_nothing_writes_at_its_exit(path):
    code = (
        "import sys; from tiercache import MemoryTier, TieredCache;"
        "cache = TieredCache([MemoryTier()], stats_file=sys.argv[1]);"
        "cache.set('a', b'1'); cache.get('a')"
    )
    pythons.run([sys.executable, "-c", code, str(path)], check=True, timeout=60)
    assert (only(path).stats["hits"], only(path).state) == (1, "ended")
    assert only(path).ended is not None


def test_it_brings_sqlite_only_where_it_is_used():
    code = (
        "import sys; from tiercache import MemoryTier, TieredCache;"
        "TieredCache([MemoryTier()]).set('a', b'1');"
        "print('sqlite3' in sys.modules, 'tiercache.shared_stats' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["False", "False"]


def test_without_proc_a_process_is_known_by_its_number_alone(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda _path: (_ for _ in ()).throw(FileNotFoundError()))
    monkeypatch.setattr(Path, "exists", lambda _path: False)
    assert _processes.born(os.getpid()) == ""
    assert _processes.born(NOBODY) is None
