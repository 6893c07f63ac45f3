"""One directory, several processes: at once, forked in the middle, and killed in the middle."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from time import monotonic

import pytest
import pythons
from faults_table import Told, seconds
from forked import exit_code
from talking import go, wait_for

from tiercache import sqlite_gate
from tiercache.entry import Entry
from tiercache.errors import TierCacheError
from tiercache.tiers.disk import DiskTier

VALUE = 6144


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    prologue = (
        "import sys, zlib\nfrom tiercache.entry import Entry\nfrom tiercache.tiers.disk import DiskTier\n"
        "def value(key):\n    return (key.encode() + b'.') * (6144 // (len(key) + 1))\n"
    )
    command = [sys.executable, "-W", "error", "-c", prologue + code, *map(str, arguments)]
    pipe = subprocess.PIPE
    return pythons.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def value(key: str) -> bytes:
    return (key.encode() + b".") * (VALUE // (len(key) + 1))


def finish(process: subprocess.Popen[str], seconds: float = 60) -> str:
    try:
        output, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert process.returncode == 0, errors
    return output


def test_several_processes_create_write_and_read_at_once(tmp_path: Path) -> None:
    code = """
tier = DiskTier(sys.argv[1], deadline=20)
me, others = int(sys.argv[2]), int(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
for round_ in range(15):
    tier.mset({f"{me} {round_} {n}": Entry(value(f"{me} {round_} {n}")) for n in range(20)})
    asked = [f"{other} {round_} {n}" for other in range(others) for n in range(20)]
    for key, entry in tier.mget(asked).items():
        assert entry.value == value(key), key
    assert tier.mget([f"{me} {round_} 7"])
    tier.mdelete([f"{me} {round_} 3"])
tier.close()
"""
    count = 4
    processes = [start(code, tmp_path / "d", me, count) for me in range(count)]
    for process in processes:
        wait_for(process, "ready")
    for process in processes:
        go(process)
    for process in processes:
        finish(process)
    tier = DiskTier(tmp_path / "d")
    keys = [f"{me} {round_} {n}" for me in range(count) for round_ in range(15) for n in range(20)]
    found = tier.mget(keys)
    assert found.keys() == {key for key in keys if not key.endswith(" 3")}
    assert all(entry.value == value(key) for key, entry in found.items())
    assert tier.counters()["corrupt"] == 0
    assert not [path for path in (tmp_path / "d").iterdir() if path.name.startswith(".tiercache-")]
    tier.close()


def test_max_bytes_holds_with_two_writing_processes(tmp_path: Path) -> None:
    code = """
tier = DiskTier(sys.argv[1], deadline=20, max_bytes="4MiB")
for round_ in range(25):
    tier.mset({f"{sys.argv[2]} {round_} {n}": Entry(value(f"{n}")) for n in range(60)})
    print((tier.directory / "cache.db").stat().st_size)
tier.close()
"""
    processes = [start(code, tmp_path / "d", me) for me in range(2)]
    sizes = [int(line) for process in processes for line in finish(process).split()]
    assert len(sizes) == 50  # 18 MiB were written
    assert max(sizes) <= 4 * 2**20 + 3 * 8192


def use_in_child(tier: DiskTier, number: int) -> int:
    """Exit code of a child's work: reads what the parent wrote, writes, reads that, deletes, closes."""
    if tier.mget(["before"])["before"].value != b"parent":
        return 2
    keys = {f"child {number} {n}": Entry(value(f"child {number} {n}")) for n in range(50)}
    tier.mset(keys)
    if {key: entry.value for key, entry in tier.mget(list(keys)).items()} != {
        k: e.value for k, e in keys.items()
    }:
        return 3
    tier.mdelete([f"child {number} 0"])
    if tier.mget([f"child {number} 0"]):
        return 4
    tier.close()
    return 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_twenty_children_forked_under_load_read_and_write(tmp_path: Path, told: Told) -> None:
    longest = 0.0
    tier = DiskTier(tmp_path, deadline=10)
    tier.mset({"before": Entry(b"parent")})
    stop = threading.Event()
    rounds = [0] * 4
    failures: list[BaseException] = []

    def load(me: int) -> None:
        try:
            while not stop.is_set():
                keys = [f"load {me} {n}" for n in range(30)]
                tier.mset({key: Entry(os.urandom(VALUE)) for key in keys})
                assert len(tier.mget(keys)) == 30
                rounds[me] += 1
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    threads = [threading.Thread(target=load, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    try:
        for number in range(20):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = use_in_child(tier, number)
                finally:
                    os._exit(code)
            forked = monotonic()
            assert exit_code(pid, 30) == 0, number
            longest = max(longest, monotonic() - forked)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    told("fork under load", f"20 of 20 children read and wrote, the slowest within {seconds(longest)}")
    assert failures == []
    assert min(rounds) > 0
    # The parent sees what its children wrote, and its own files were not pulled from under it.
    found = tier.mget([f"child {number} {n}" for number in range(20) for n in range(50)])
    assert len(found) == 20 * 49
    tier.mset({"after": Entry(b"x")})
    tier.close()
    again = DiskTier(tmp_path)
    assert again.mget(["after", "child 19 49"]).keys() == {"after", "child 19 49"}
    again.close()


def test_a_child_goes_on_after_its_parent_closed(tmp_path: Path) -> None:
    tier = DiskTier(tmp_path)
    tier.mset({"before": Entry(b"parent")})
    to_child, to_parent = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            tier.mset({"early": Entry(b"child")})
            os.write(to_parent[1], b"x")
            os.read(to_child[0], 1)  # until the parent has closed its own, and others have come and gone
            tier.mset({"late": Entry(b"child")})
            code = use_in_child(tier, 0)
        finally:
            os._exit(code)
    assert tier.mget(["before"])
    os.read(to_parent[0], 1)
    tier.close()
    others = [f"other {n}" for n in range(300)]
    for number in range(3):
        with DiskTierUser(tmp_path) as other:
            other.mset({key: Entry(value(key)) for key in others[number::3]})
    os.write(to_child[1], b"x")
    assert exit_code(pid, 30) == 0
    with DiskTierUser(tmp_path) as other:
        assert other.mget(["before", "early", "late", *others]).keys() == {"before", "early", "late", *others}
    connection = sqlite3.connect(tmp_path / "cache.db")
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    for end in (*to_child, *to_parent):
        os.close(end)


class DiskTierUser:
    def __init__(self, directory: Path) -> None:
        self.tier = DiskTier(directory)

    def __enter__(self) -> DiskTier:
        return self.tier

    def __exit__(self, *_: object) -> None:
        self.tier.close()


def test_a_child_forked_in_the_middle_of_a_call_refuses_instead_of_hanging(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_gate, "DRAIN_SECONDS", 0.05)
    tier = DiskTier(tmp_path)
    tier.mset({"before": Entry(b"parent")})
    inside, leave = threading.Event(), threading.Event()

    def linger(_: object) -> None:
        inside.set()
        leave.wait(30)

    thread = threading.Thread(target=lambda: tier.store._run(linger))
    thread.start()
    assert inside.wait(10)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        code = 1
        try:
            tier.mget(["before"])
        except TierCacheError as error:
            code = 0 if "forked in the middle" in str(error) else 3
        finally:
            os._exit(code)
    leave.set()
    thread.join(10)
    assert exit_code(pid, 20) == 0
    assert tier.mget(["before"])["before"].value == b"parent"
    tier.close()


def test_a_forked_child_leaves_a_temporary_directory_to_its_parent(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    tier_directory = Path(_temporary_tier_in_a_process_that_forks())
    assert not tier_directory.exists()


def _temporary_tier_in_a_process_that_forks() -> str:
    code = """
import os, warnings
from unittest import mock
from tiercache.tiers.disk import tier as module
warnings.simplefilter("ignore")
error = module.UnusableDirectory("no room")
real, calls = module.prepare, []
def prepare(path, *, read_only):
    calls.append(path)
    if len(calls) == 1:
        raise error
    return real(path, read_only=read_only)
with mock.patch.object(module, "prepare", prepare):
    tier = module.DiskTier("anywhere", on_unusable="temporary")
tier.mset({"k": Entry(b"v")})
if os.fork() == 0:
    sys.exit(0)  # runs the exit handlers
os.wait()
assert tier.mget(["k"])["k"].value == b"v" and tier.directory.exists()
print(tier.directory)
"""
    return finish(start(code)).strip()
