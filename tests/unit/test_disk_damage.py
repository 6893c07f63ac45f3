"""A damaged database is set aside and makes way for a new one; one in good health stays where it is."""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, product
from pathlib import Path
from time import monotonic

import pytest
from selections import usually

from tiercache.entry import Entry
from tiercache.errors import ConfigError, TierError, TierTimeout, TierUnavailable
from tiercache.testing import FakeClock
from tiercache.tiers.disk import DiskTier
from tiercache.tiers.disk._damage import Exchanged, identify, set_aside
from tiercache.tiers.disk._directory import MARKER, prepare
from tiercache.tiers.disk._door import Door
from tiercache.tiers.disk._engine import create_database

KEYS = [f"key {number}" for number in range(300)]


def value(key: str) -> bytes:
    return key.encode() * 100


def fill(directory: Path) -> None:
    tier = DiskTier(directory)
    tier.mset({key: Entry(value(key)) for key in KEYS})
    tier.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("filled") / "d"
    fill(directory)
    return directory


@pytest.fixture
def directory(filled: Path, tmp_path: Path) -> Path:
    """A closed tier's, holding `KEYS`."""
    return shutil.copytree(filled, tmp_path / "d")


@pytest.fixture
def tier(directory: Path) -> Iterator[DiskTier]:
    """Over the same, opened before the test damages it."""
    made = DiskTier(directory)
    assert made.mget(KEYS[:1])
    yield made
    made.close()


def aside(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir() if ".damaged-" in path.name)


def warned(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def overwrite(directory: Path, at: int, data: bytes) -> None:
    with (directory / "cache.db").open("r+b") as file:
        file.seek(at)
        file.write(data)


def truncate(directory: Path, size: int) -> None:
    with (directory / "cache.db").open("r+b") as file:
        file.truncate(size)


def run_sql(directory: Path, *statements: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(directory / "cache.db", isolation_level=None)
    try:
        connection.execute("PRAGMA writable_schema = ON")
        return [row for statement in statements for row in connection.execute(statement).fetchall()]
    finally:
        connection.close()


def page_size(directory: Path) -> int:
    return int.from_bytes((directory / "cache.db").read_bytes()[16:18])


def spoil_page_of(directory: Path, name: str) -> None:
    ((page,),) = run_sql(directory, f"SELECT rootpage FROM sqlite_master WHERE name = '{name}'")  # noqa: S608 - constants
    assert isinstance(page, int)
    size = page_size(directory)
    overwrite(directory, (page - 1) * size, random.Random(1).randbytes(size))


def half(directory: Path) -> None:
    size = page_size(directory)
    truncate(directory, (directory / "cache.db").stat().st_size // 2 // size * size)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda d: (d / "cache.db").write_bytes(b"garbage" * 1000),
    "empty": lambda d: truncate(d, 0),
    "a few bytes": lambda d: truncate(d, 50),
    "half": half,
    "magic": lambda d: overwrite(d, 3, b"?"),
    "page size": lambda d: overwrite(d, 16, b"\0\7"),
    "header": lambda d: overwrite(d, 16, b"\xff" * 84),
    "first page": lambda d: overwrite(d, 100, b"\xff" * 2000),
    "index": lambda d: spoil_page_of(d, "Cache_key_raw"),
    "schema": lambda d: run_sql(d, "UPDATE sqlite_master SET sql = 'CREATE TABLE ?' WHERE name = 'Cache'"),
    "schema is no text": lambda d: run_sql(
        d, "UPDATE sqlite_master SET sql = CAST(x'e5ff' AS TEXT) WHERE name = 'Cache'"
    ),
    "trigger": lambda d: run_sql(
        d,
        "UPDATE sqlite_master SET sql = replace(sql, 'Settings', 'Settincs')"
        " WHERE type = 'trigger' AND sql LIKE '%Settings%'",
    ),
    "no tables": lambda d: ((d / "cache.db").unlink(), run_sql(d, "CREATE TABLE t (x)", "DROP TABLE t")),
    "no entries' table": lambda d: run_sql(d, "DROP TABLE Cache"),
    "no settings": lambda d: run_sql(d, "DROP TABLE Settings"),
    "no column": lambda d: run_sql(d, "ALTER TABLE Cache RENAME COLUMN value TO vanue"),
    "no totals": lambda d: run_sql(d, "DELETE FROM Settings WHERE key = 'count'"),
    "totals of text": lambda d: run_sql(d, "UPDATE Settings SET value = 'x' WHERE key = 'size'"),
}


FIRST = ["read", "write", "delete", "list"]


@pytest.mark.parametrize(
    ("damage", "first"),
    usually({*zip(DAMAGES, cycle(FIRST), strict=False)}, product(DAMAGES, FIRST)),
)
def test_a_database_found_damaged_makes_way(
    directory: Path, caplog: pytest.LogCaptureFixture, damage: str, first: str
) -> None:
    DAMAGES[damage](directory)
    before = (directory / "cache.db").read_bytes()
    tier = DiskTier(directory)
    if first == "read":
        assert tier.mget(KEYS) == {}
    elif first == "delete":
        tier.mdelete(KEYS)
    elif first == "list":
        assert damage == "index" or tier.scan("") == ([], None)  # a listing reads another index
    tier.mset({key: Entry(value(key)) for key in KEYS})
    assert {key: entry.value for key, entry in tier.mget(KEYS).items()} == {key: value(key) for key in KEYS}
    (name,) = (name for name in aside(directory) if not name.endswith(("-wal", "-shm")))
    assert (directory / name).read_bytes() == before
    assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    (warning,) = warned(caplog)
    assert name in warning
    assert str(directory) in warning
    tier.close()
    again = DiskTier(directory)  # which accepts what lies there as ours
    assert again.mget(KEYS).keys() == {*KEYS}
    again.close()
    assert len(warned(caplog)) == 1


@pytest.mark.parametrize("first", ["read", "write", "delete"])
@pytest.mark.parametrize("damage", ["index", "empty", "no entries' table"])
def test_damage_in_the_middle_of_the_work(
    tier: DiskTier, caplog: pytest.LogCaptureFixture, damage: str, first: str
) -> None:
    DAMAGES[damage](tier.directory)
    if first == "read":
        found = tier.mget(KEYS)
        assert all(entry.value == value(key) for key, entry in found.items())
    elif first == "delete":
        tier.mdelete(KEYS)
        assert tier.mget(KEYS) == {}
    tier.mset({key: Entry(b"new") for key in KEYS})
    assert {entry.value for entry in tier.mget(KEYS).values()} == {b"new"}
    assert len(tier.mget(KEYS)) == len(KEYS)
    assert len(warned(caplog)) == 1


def test_the_log_is_set_aside_with_its_database(tier: DiskTier) -> None:
    other = DiskTier(tier.directory)  # while it is open, closing damaged ones brings no log home
    tier.mset({"more": Entry(b"x" * 20_000)})
    assert other.mget(["more"])
    log = (tier.directory / "cache.db-wal").read_bytes()
    overwrite(tier.directory, 8192, random.Random(1).randbytes((tier.directory / "cache.db").stat().st_size))
    assert tier.mget(KEYS) == {}
    base, *rest = aside(tier.directory)
    assert (tier.directory / f"{base}-wal").read_bytes() == log
    assert all(stat.S_IMODE((tier.directory / name).stat().st_mode) == 0o600 for name in rest)
    other.close()


def test_a_damaged_log_gives_no_wrong_values(tmp_path: Path) -> None:
    source = random.Random(5)
    tier = DiskTier(tmp_path / "d")
    tier.store._upkeep.close(0)  # the log stays where it is
    for generation in range(3):
        tier.mset({key: Entry(value(key) + b"%d" % generation) for key in KEYS[:50]})
    for round_ in range(24):
        copy = tmp_path / f"copy {round_}"
        shutil.copytree(tmp_path / "d", copy)
        with (copy / "cache.db-wal").open("r+b") as file:
            log = bytearray(file.read())
            for _ in range(1 + round_ % 8):
                log[source.randrange(len(log))] ^= 1 << source.randrange(8)
            file.seek(0)
            file.write(log)
        other = DiskTier(copy)
        for key, entry in other.mget(KEYS).items():
            assert entry.value in [value(key) + b"%d" % generation for generation in range(3)]
        other.mset({key: Entry(b"new") for key in KEYS})
        assert {entry.value for entry in other.mget(KEYS).values()} == {b"new"}
        other.close()
    tier.close()


def test_flipped_bytes_give_no_wrong_values_and_no_errors_of_reads(directory: Path, tmp_path: Path) -> None:
    source = random.Random(7)
    whole = (directory / "cache.db").read_bytes()
    for round_ in range(60):
        data = bytearray(whole)
        for _ in range((1, 8, 40)[round_ % 3]):
            data[source.randrange(len(data) if round_ % 4 else 3 * 8192)] ^= 1 << source.randrange(8)
        (directory / "cache.db").write_bytes(data)
        tier = DiskTier(directory, max_bytes="1MiB")
        assert all(entry.value == value(key) for key, entry in tier.mget(KEYS).items())
        tier.scan("")
        try:
            tier.mset({key: Entry(value(key)) for key in KEYS})
        except TierError as error:  # a byte of the header says who may write
            assert "readonly" in str(error)  # noqa: PT017 - most rounds raise nothing
        assert all(entry.value == value(key) for key, entry in tier.mget(KEYS).items())
        tier.close()


def test_two_rows_of_one_key_are_damage(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rows of a batch would lie beside the wrong keys, and all of them be taken for damaged."""
    run_sql(
        directory,
        "DROP INDEX Cache_key_raw",
        "CREATE INDEX Cache_key_raw ON Cache (key, raw)",
        f"UPDATE Cache SET key = '{KEYS[0]}' WHERE key = '{KEYS[1]}'",  # noqa: S608 - constants
    )
    tier = DiskTier(directory)
    assert tier.mget(KEYS) == {}
    assert tier.counters()["corrupt"] == 0
    assert len(warned(caplog)) == 1
    tier.close()


def test_totals_that_are_wrong_are_noticed_before_all_is_evicted_for_ever(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_sql(directory, "UPDATE Settings SET value = value + 1000000000000 WHERE key = 'size'")
    tier = DiskTier(directory)
    for _ in range(3):
        tier.mset({key: Entry(value(key)) for key in KEYS})
    assert tier.mget(KEYS).keys() == {*KEYS}
    assert len(warned(caplog)) == 1
    tier.close()


@pytest.mark.parametrize(
    "tables", ["CREATE TABLE t (x)", "CREATE TABLE Cache (key, value)", "CREATE TABLE Settings (a, b)"]
)
def test_somebody_elses_database_is_left_as_it_is(
    directory: Path, caplog: pytest.LogCaptureFixture, tables: str
) -> None:
    (directory / "cache.db").unlink()
    run_sql(directory, tables)
    before = (directory / "cache.db").read_bytes()
    tier = DiskTier(directory)
    for call in (lambda: tier.mget(KEYS), lambda: tier.mset({"k": Entry(b"v")}), lambda: tier.scan("")):
        with pytest.raises(TierUnavailable, match=r"did not make; move .*cache\.db away"):
            call()
    tier.close()
    assert (directory / "cache.db").read_bytes() == before
    assert aside(directory) == []
    assert warned(caplog) == []


@pytest.mark.parametrize("damage", ["garbage", "index", "empty", "no settings"])
def test_a_reader_moves_nothing(directory: Path, damage: str) -> None:
    DAMAGES[damage](directory)
    before = (directory / "cache.db").read_bytes()
    tier = DiskTier(directory, read_only=True)
    for _ in range(2):
        with pytest.raises(TierUnavailable, match=f"while no process uses it, delete {directory} to start"):
            tier.mget(KEYS)
    tier.close()
    assert (directory / "cache.db").read_bytes() == before
    assert aside(directory) == []


def test_what_says_nothing_about_the_database_moves_nothing(
    tier: DiskTier, caplog: pytest.LogCaptureFixture
) -> None:
    blocker = sqlite3.connect(tier.directory / "cache.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    impatient = DiskTier(tier.directory, deadline="20ms")
    with pytest.raises(TierTimeout, match="locked"):
        impatient.mset({"k": Entry(b"v")})
    blocker.close()
    impatient.close()

    def fill_the_disk(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        connection.execute("CREATE TABLE more AS SELECT zeroblob(1000000)")

    with pytest.raises(TierUnavailable, match="full"):
        tier.store._run(fill_the_disk)

    def write_what_is_read_only(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("DELETE FROM Cache")

    with pytest.raises(TierUnavailable, match="readonly"):
        tier.store._run(write_what_is_read_only)
    with pytest.raises(TierUnavailable, match="no such table: nobody's"):
        tier.store._run(lambda connection: connection.execute('SELECT * FROM "nobody\'s"'))
    assert tier.mget(KEYS).keys() == {*KEYS}
    assert aside(tier.directory) == []
    assert warned(caplog) == []


def test_the_two_last_ones_are_kept(directory: Path) -> None:
    clock = FakeClock()
    for number in range(5):
        (directory / "cache.db").write_bytes(b"garbage %d" % number * 1000)
        tier = DiskTier(directory, clock=clock)
        assert tier.mget(KEYS) == {}
        tier.close()
        if number != 3:  # the last two of the same second
            clock.advance(1)
    names = aside(directory)
    assert names[1:] == [f"{names[0]}-1"]
    assert [(directory / name).read_bytes()[:9] for name in names] == [b"garbage 3", b"garbage 4"]


def test_what_was_set_aside_is_ours_and_private(directory: Path, tmp_path: Path) -> None:
    (directory / "cache.db").write_bytes(b"garbage" * 1000)
    tier = DiskTier(directory)
    tier.mget(KEYS)
    tier.close()
    (name,) = aside(directory)
    (directory / name).chmod(0o644)
    DiskTier(directory).close()
    assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    (tmp_path / "victim").write_text("x")
    (directory / f"{name}-1").symlink_to(tmp_path / "victim")
    with pytest.raises(ConfigError, match=f"{name}-1 is no plain file"):
        DiskTier(directory)


def test_of_many_threads_that_meet_the_damage_one_sets_it_aside(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiers = [DiskTier(directory), DiskTier(directory)]
    for tier in tiers:
        assert tier.mget(KEYS).keys() == {*KEYS}
    spoil_page_of(directory, "Cache_key_raw")
    together = threading.Barrier(8)

    def use(me: int) -> None:
        together.wait(10)
        for round_ in range(10):
            keys = [f"{me} {round_} {key}" for key in KEYS[:10]]
            tiers[me % 2].mset({key: Entry(value(key)) for key in keys})
            assert tiers[1 - me % 2].mget(keys).keys() == {*keys}

    with ThreadPoolExecutor(8) as threads:
        for job in [threads.submit(use, me) for me in range(8)]:
            job.result(60)
    assert len([name for name in aside(directory) if not name.endswith(("-wal", "-shm"))]) == 1
    assert len(warned(caplog)) == 1
    for tier in tiers:
        tier.close()


def exchange(directory: Path) -> None:
    """As another process would that met damage which this one never sees."""
    assert set_aside(directory, identify(directory), seconds=5, now=0.0)
    create_database(directory, seconds=5, page_size=8192, now=1e9)


def test_who_meets_no_error_notices_too(tier: DiskTier) -> None:
    other = DiskTier(tier.directory)
    assert other.mget(KEYS).keys() == {*KEYS}
    size = (tier.directory / "cache.db").stat().st_size
    exchange(tier.directory)
    third = DiskTier(tier.directory)
    third.mset({f"more {key}": Entry(value(key) * 4) for key in KEYS})
    third.close()  # the new one is larger by now, and all of it in place
    assert (tier.directory / "cache.db").stat().st_size > size
    tier.mdelete(KEYS)
    tier.mset({"k": Entry(b"new")})
    assert other.mget([*KEYS, "k"]).keys() == {"k"}
    other.mset({"l": Entry(b"new")})
    assert tier.mget([*KEYS, "k", "l"]).keys() == {"k", "l"}
    other.close()
    # Closing took neither the log nor what is in it from the others.
    assert tier.mget(["k", "l"]).keys() == {"k", "l"}
    third = DiskTier(tier.directory)
    assert third.mget(["k", "l"]).keys() == {"k", "l"}
    third.close()


def test_a_connection_to_the_old_one_takes_no_log_of_the_new_one_when_it_closes(tier: DiskTier) -> None:
    old = tier.store._database._engine

    def meanwhile(connection: sqlite3.Connection) -> tuple[int]:
        exchange(tier.directory)
        tier.mset({"k": Entry(b"new")})
        return connection.execute("SELECT count(*) FROM Cache").fetchone()

    assert old.call(meanwhile, monotonic() + 5) == (len(KEYS),)
    log = tier.directory / "cache.db-wal"
    size = log.stat().st_size
    assert size > 0
    old.shut()  # the last one
    assert log.stat().st_size == size
    other = DiskTier(tier.directory)
    assert other.mget(["k"]).keys() == {"k"}
    other.close()


def test_no_new_connection_is_taken_for_one_to_the_old_database(tier: DiskTier) -> None:
    old = tier.store._database._engine
    old.disconnect()
    exchange(tier.directory)
    with pytest.raises(Exchanged):
        old.call(lambda connection: connection, monotonic() + 5)
    assert tier.mget(KEYS) == {}


def test_nobody_sets_a_new_one_aside(tier: DiskTier) -> None:
    damaged = identify(tier.directory)
    exchange(tier.directory)
    tier.mset({"k": Entry(b"new")})
    before = aside(tier.directory)
    assert set_aside(tier.directory, damaged, seconds=5, now=0.0) is None
    assert aside(tier.directory) == before
    assert tier.mget(["k"]).keys() == {"k"}
    (tier.directory / "cache.db").unlink()
    assert set_aside(tier.directory, damaged, seconds=5, now=0.0) is None


def test_nobody_opens_while_one_is_exchanged(directory: Path) -> None:
    patient, impatient = DiskTier(directory, deadline=30), DiskTier(directory, deadline="20ms")
    found: list[set[str]] = []
    thread = threading.Thread(target=lambda: found.append({*patient.mget(KEYS)}))
    with Door(directory).alone(5):
        thread.start()
        with pytest.raises(TierTimeout, match="exchanging the database"):
            impatient.mget(KEYS)
        assert found == []
    thread.join(30)
    assert found == [{*KEYS}]
    patient.close()
    impatient.close()


def test_a_log_without_its_database_is_not_taken_up(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path / "d")
    tier.store._upkeep.close(0)
    tier.mset({key: Entry(value(key)) for key in KEYS})
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    tier.close()
    assert (tmp_path / "copy" / "cache.db-wal").stat().st_size > 0
    (tmp_path / "copy" / "cache.db").unlink()
    other = DiskTier(tmp_path / "copy")
    assert other.mget(KEYS) == {}
    other.mset({"k": Entry(b"v")})
    assert other.mget(["k", *KEYS]).keys() == {"k"}
    other.close()


def test_a_database_or_directory_that_is_removed_is_made_again(tier: DiskTier) -> None:
    for name in ("cache.db", "cache.db-wal", "cache.db-shm"):
        (tier.directory / name).unlink(missing_ok=True)
    assert tier.mget(KEYS) == {}
    tier.mset({"k": Entry(b"v")})
    shutil.rmtree(tier.directory)
    assert tier.mget(["k"]) == {}
    tier.mset({"k": Entry(b"w")})
    tier.close()
    again = DiskTier(tier.directory)
    assert again.mget(["k"])["k"].value == b"w"
    assert stat.S_IMODE(tier.directory.stat().st_mode) == 0o700
    again.close()


def test_a_directory_that_another_process_is_just_making_again_is_claimed(tier: DiskTier) -> None:
    """Or that process finds our lock in it without our marker, and takes both for somebody else's."""
    tier.mset({"k": Entry(b"v")})
    shutil.rmtree(tier.directory)
    tier.directory.mkdir(mode=0o700)
    assert tier.mget(["k"]) == {}
    assert (tier.directory / MARKER).exists()


def test_settings_that_we_do_not_know_reach_nothing(directory: Path, tmp_path: Path) -> None:
    """diskcache makes attributes of what it finds among its settings."""
    fill(tmp_path / "other")
    elsewhere = f"file:{tmp_path / 'other' / 'cache.db'}?mode=rw"
    run_sql(
        directory,
        f"INSERT INTO Settings VALUES ('_uri', '{elsewhere}'), ('lease', 1), ('disk_vile', 1)",  # noqa: S608 - constants
    )
    tier = DiskTier(directory)
    tier.mset({"k": Entry(b"v")})
    tier.store._database._engine.disconnect()
    assert tier.mget(["k", *KEYS]).keys() == {"k", *KEYS}
    other = DiskTier(tmp_path / "other")
    assert other.mget(["k"]) == {}
    other.close()
    tier.close()
    assert aside(directory) == []


def test_where_it_cannot_be_set_aside_the_call_fails(
    directory: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Permission denied", str(self))

    (directory / "cache.db").write_bytes(b"garbage" * 1000)
    tier = DiskTier(directory)
    monkeypatch.setattr(Path, "rename", refuse)
    for _ in range(2):
        with pytest.raises(TierUnavailable, match="Permission denied"):
            tier.mget(KEYS)
    assert warned(caplog) == []
    monkeypatch.undo()
    assert tier.mget(KEYS) == {}
    assert len(warned(caplog)) == 1
    tier.close()


def test_the_door_stands_open_where_its_lock_cannot_be_made(tmp_path: Path) -> None:
    directory = prepare(tmp_path / "d", read_only=False)
    shutil.rmtree(directory)
    with Door(directory).together(0.1):
        pass
    with pytest.raises(FileNotFoundError), Door(directory).alone(0.1):
        pass
