"""Several processes on one database that is damaged under them: one sets it aside, the others follow."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from talking import go, wait_for

from tiercache.entry import Entry
from tiercache.tiers.disk import DiskTier

PROLOGUE = """
import logging, os, sys
from pathlib import Path
from tiercache.entry import Entry
from tiercache.tiers.disk import DiskTier
logging.basicConfig(format="%(levelname)s %(message)s")
def step(word):  # tells that it is there, and waits to be told to go on
    print(word, flush=True)
    sys.stdin.readline()
"""
OLD = [f"old {number}" for number in range(300)]


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", PROLOGUE + code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return pythons.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """What it logged."""
    try:
        _, errors = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == code, errors
    return errors


def fill(directory: Path) -> None:
    tier = DiskTier(directory)
    tier.mset({key: Entry(key.encode() * 100) for key in OLD})
    tier.close()


def aside(directory: Path) -> list[str]:
    names = [path.name for path in directory.iterdir() if ".damaged-" in path.name]
    return [name for name in names if not name.endswith(("-wal", "-shm"))]


def spoil(directory: Path) -> None:
    """Every page but the first, under those who have it open."""
    database = directory / "cache.db"
    with database.open("r+b") as file:
        file.seek(8192)
        file.write(random.Random(3).randbytes(database.stat().st_size - 8192))


WORK = """
tier = DiskTier(sys.argv[1], deadline=20)
me = sys.argv[2]
if sys.argv[3] == "open":
    assert tier.mget(["old 1"])
step("ready")
old = [f"old {number}" for number in range(300)]
for round_ in range(25):
    keys = [f"{me} {round_} {number}" for number in range(20)]
    tier.mset({key: Entry(key.encode() * 50) for key in keys})
    found = tier.mget(keys)
    assert {key: entry.value for key, entry in found.items()} == {key: key.encode() * 50 for key in keys}
    for key, entry in tier.mget(old).items():
        assert entry.value == key.encode() * 100
    tier.mdelete(keys[:5])
    assert not tier.mget(keys[:5])
tier.close()
"""


@pytest.mark.parametrize("opened", ["open", "not yet"])
def test_four_processes_meet_the_damage_at_once(tmp_path: Path, opened: str) -> None:
    directory = tmp_path / "d"
    fill(directory)
    processes = [start(WORK, directory, me, opened) for me in range(4)]
    for process in processes:
        wait_for(process, "ready")
    spoil(directory)
    for process in processes:
        go(process)
    logged = "".join(finish(process) for process in processes)
    assert len(aside(directory)) == 1
    assert logged.count("WARNING") == logged.count("was set aside as") == 1
    assert aside(directory)[0] in logged
    tier = DiskTier(directory)
    for me in range(4):
        keys = [f"{me} {round_} {number}" for round_ in range(25) for number in range(20)]
        assert tier.mget(keys).keys() == {key for key in keys if int(key.split()[2]) >= 5}
    assert tier.counters()["corrupt"] == 0
    tier.close()
    assert not [path for path in directory.iterdir() if path.name.startswith(".tiercache-")]


def test_a_process_that_meets_no_damage_follows(tmp_path: Path) -> None:
    code = """
tier = DiskTier(sys.argv[1], deadline=20)
assert tier.mget(["old 1"])
step("ready")
assert not tier.mget(["old 1", "old 2"])
assert tier.mget(["new"])["new"].value == b"theirs"
tier.mset({"mine": Entry(b"mine")})
tier.close()
"""
    fill(tmp_path / "d")
    tier = DiskTier(tmp_path / "d", deadline=20)
    process = start(code, tmp_path / "d")
    wait_for(process, "ready")
    spoil(tmp_path / "d")
    assert tier.mget(OLD) == {}
    tier.mset({"new": Entry(b"theirs")})
    go(process)
    assert finish(process) == ""
    assert tier.mget(["new", "mine"]).keys() == {"new", "mine"}
    tier.close()
    assert len(aside(tmp_path / "d")) == 1


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_process_that_ends_while_it_sets_the_database_aside(tmp_path: Path, renames: int) -> None:
    """What it leaves is taken up by the next one: no log of the old database gets into the new one."""
    code = """
directory, renames = Path(sys.argv[1]), int(sys.argv[2])
tier = DiskTier(directory, deadline=20)
tier.mset({f"logged {number}": Entry(b"x" * 500) for number in range(100)})
step("ready")
real = Path.rename
def rename(self, target):
    global renames
    if not renames:
        os._exit(7)
    renames -= 1
    return real(self, target)
Path.rename = rename
tier.mget([f"old {number}" for number in range(300)])
"""
    directory = tmp_path / "d"
    fill(directory)
    other = DiskTier(directory, deadline=20)
    assert other.mget(OLD).keys() == {*OLD}  # while it is open nobody else's end removes the log
    process = start(code, directory, renames)
    wait_for(process, "ready")
    spoil(directory)
    go(process)
    finish(process, 7)
    assert (directory / "cache.db").exists() == (renames == 0)
    tier = DiskTier(directory, deadline=20)
    assert tier.mget(OLD) == {}
    tier.mset({"k": Entry(b"v")})
    assert tier.mget(["k", *(f"logged {number}" for number in range(100))]).keys() == {"k"}
    assert other.mget(["k", *OLD]).keys() == {"k"}
    other.close()
    tier.close()
    assert len(aside(directory)) == 1


@pytest.mark.parametrize("rest", [0, 4096, 8192 * 20])
def test_a_database_that_is_cut_short_under_a_process_does_not_end_it(tmp_path: Path, rest: int) -> None:
    """SQLite maps the file into memory; to touch what was cut off is a bus error."""
    code = """
tier = DiskTier(sys.argv[1], deadline=20)
old = [f"old {number}" for number in range(300)]
tier.mset({"logged": Entry(b"x")})  # with an empty log SQLite asks for the size of the file
assert len(tier.mget(old)) == 300
step("ready")
for key, entry in tier.mget(old).items():
    assert entry.value == key.encode() * 100
tier.mset({"k": Entry(b"v")})
assert tier.mget(["k"])["k"].value == b"v"
tier.close()
"""
    fill(tmp_path / "d")
    process = start(code, tmp_path / "d")
    wait_for(process, "ready")
    with (tmp_path / "d" / "cache.db").open("r+b") as file:
        file.truncate(rest)
    go(process)
    finish(process)
    tier = DiskTier(tmp_path / "d")
    assert tier.mget(["k"])["k"].value == b"v"
    tier.close()
