"""A directory that turns read-only, or is removed, while it is in use: reads go on, or are misses; writes are
refused and counted; and all is well again when it is.

Rights mean nothing to root, so there the tests run in a process that gave that privilege up. Where mounting
is possible the same is shown with a file system that is read-only.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pythons
from faults_table import Told
from places import mounted, run
from talking import go, wait_for

from tiercache import DiskTier, Entry, TierUnavailable
from tiercache.sqlite_gate import GATE

PROLOGUE = """
import os, sys
from pathlib import Path
from rights import obey_rights
from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierUnavailable, WriteError
from tiercache.sqlite_gate import GATE

def disconnect():  # as before a fork: nothing stays open
    GATE.before_fork()
    GATE.after_fork_in_parent()

obey_rights()
directory = Path(sys.argv[1])
"""


#: Where the prologue finds the tests' own modules.
TESTS = Path(__file__).parent.parent


def in_a_process(code: str, *arguments: object) -> None:
    command = [sys.executable, "-W", "error", "-c", PROLOGUE + code, *map(str, arguments)]
    done = pythons.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=TESTS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("idle", ["open files", "no open files"])
def test_rights_that_are_taken_away_and_given_back(tmp_path: Path, idle: str) -> None:
    code = """
tier = DiskTier(directory)
tier.mset({"k": Entry(b"v"), "l": Entry(b"w")})
if sys.argv[2] == "no open files":
    disconnect()
for turn in range(2):
    directory.chmod(0o500)
    assert tier.mget(["k", "l", "m"]).keys() == {"k", "l"}
    assert sorted(tier.scan("")[0]) == ["k", "l"]
    for write in (lambda: tier.mset({"k": Entry(b"x")}), lambda: tier.mdelete(["k"]), lambda: tier.clear("")):
        try:
            write()
        except TierUnavailable as error:
            assert "cannot be written" in str(error)
        else:
            raise AssertionError("it was written")
    assert tier.mget(["k"])["k"].value == b"v"
    directory.chmod(0o700)
    other = DiskTier(directory)  # another one writes first
    other.mdelete(["l"])
    assert tier.mget(["k", "l"]).keys() == {"k"}
    other.close()
    tier.mset({"l": Entry(b"again")})
    assert tier.mget(["k", "l"]).keys() == {"k", "l"}
    if sys.argv[2] == "no open files":
        disconnect()
tier.close()
"""
    in_a_process(code, tmp_path / "d", idle)


def test_a_chain_names_the_tier_and_its_deletes_raise(tmp_path: Path, told: Told) -> None:
    code = """
tier = DiskTier(directory)
memory = MemoryTier(max_entries=10)
with TieredCache([memory, tier], promote="inline") as cache:
    cache.mset({"k": b"v", "l": b"w"})
    directory.chmod(0o500)
    memory.clear("")
    assert cache.mget(["k", "m"]) == [b"v", None]
    result = cache.set("k", b"x")
    assert (result.accepted, result.failed) == (("memory",), ("disk",)), result
    assert cache.stats().tiers[1].errors
    for delete in (lambda: cache.delete("l"), cache.clear):
        try:
            delete()
        except WriteError as error:
            assert "disk" in str(error)
        else:
            raise AssertionError("a delete that nobody took down was confirmed")
    directory.chmod(0o700)
    tier.mset({"again": Entry(b"y")})
    assert tier.mget(["again"])
"""
    in_a_process(code, tmp_path / "d")
    told(
        "directory turned read-only while in use",
        "reads go on, sets skip the tier and are counted, deletes raise, recovers",
    )


@pytest.fixture
def closable(tmp_path: Path) -> Iterator[tuple[Path, Callable[[], object]]]:
    """A directory on a file system of its own, and how to make that read-only: below another mount of it, as
    nobody may take away the right to write from files that are open."""
    with mounted(tmp_path / "disk", "tmpfs", "size=64m") as place:
        directory = place / "d"

        @contextmanager
        def read_only() -> Iterator[None]:
            assert run("mount", "--bind", directory, directory) is None
            try:
                assert run("mount", "-o", "remount,ro,bind", directory) is None
                yield
            finally:
                assert run("umount", "-l", directory) is None

        yield directory, read_only


@pytest.mark.parametrize("idle", ["open files", "no open files"])
def test_a_file_system_that_turns_read_only(closable: tuple[Path, Callable[[], object]], idle: str) -> None:
    directory, read_only = closable
    tier = DiskTier(directory)
    tier.mset({"k": Entry(b"v"), "l": Entry(b"w")})
    for _ in range(2):
        if idle == "no open files":
            GATE.before_fork()
            GATE.after_fork_in_parent()
        with read_only():
            assert tier.mget(["k", "l", "m"]).keys() == {"k", "l"}
            for write in (lambda: tier.mset({"k": Entry(b"x")}), lambda: tier.mdelete(["k"])):
                with pytest.raises(TierUnavailable, match="cannot be written"):
                    write()
            assert tier.mget(["k"])["k"].value == b"v"
        tier.mdelete(["l"])
        assert tier.mget(["k", "l"]).keys() == {"k"}
        tier.mset({"l": Entry(b"w")})
    tier.close()


def test_a_reader_of_a_file_that_cannot_change_notices_when_it_can(tmp_path: Path) -> None:
    """It was opened as one that nobody writes; read so while somebody does, it would show what is deleted."""
    code = """
DiskTier(directory).close()
writer = DiskTier(directory)
writer.mset({"k": Entry(b"v"), "l": Entry(b"w")})
writer.close()
directory.chmod(0o500)
reader = DiskTier(directory, read_only=True)
assert reader.mget(["k", "l"]).keys() == {"k", "l"}
directory.chmod(0o700)
writer = DiskTier(directory)
writer.mdelete(["l"])
assert reader.mget(["k", "l"]).keys() == {"k"}
writer.close()
assert reader.mget(["k", "l"]).keys() == {"k"}
reader.close()
"""
    in_a_process(code, tmp_path / "d")


REMOVED = """
tier = DiskTier(directory, deadline=30)
me = sys.argv[2]
tier.mset({f"{me} before": Entry(b"v")})
print("ready", flush=True)
sys.stdin.readline()
assert not tier.mget([f"{me} before"])
for round_ in range(20):
    keys = [f"{me} {round_} {number}" for number in range(5)]
    tier.mset({key: Entry(key.encode()) for key in keys})
    found = tier.mget(keys)
    assert {key: entry.value for key, entry in found.items()} == {key: key.encode() for key in keys}
tier.close()
"""


def test_processes_whose_directory_is_removed_make_one_new_one(tmp_path: Path) -> None:
    directory = tmp_path / "d"
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "error", "-c", PROLOGUE + REMOVED, str(directory)]
    processes = [
        pythons.Popen([*command, str(me)], stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd=TESTS)
        for me in range(3)
    ]
    for process in processes:
        wait_for(process, "ready")
    shutil.rmtree(directory)
    for process in processes:
        go(process)
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], "\n".join(errors)
    tier = DiskTier(directory)
    keys = [f"{me} {round_} {number}" for me in range(3) for round_ in range(20) for number in range(5)]
    assert tier.mget(keys).keys() == {*keys}
    assert directory.stat().st_mode & 0o777 == 0o700
    tier.close()
