"""A full disk: reads go on, deletes and clears work, sets are refused and counted, and it recovers by itself.

Two kinds of disk: a real one of 8 MB, where the machine lets us mount one, and one that ends because no file
may be longer than 2 MB, which any user can have anywhere.
"""

from __future__ import annotations

import fcntl
import os
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from faults_table import Told
from missing import LossyTier, restart_process
from places import mounted, sooner_or_later
from talking import wait_for
from waiting import LIMIT, pool

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierFull
from tiercache.testing import FakeClock
from tiercache.tiers.disk import _ballast
from tiercache.tiers.disk._door import wait_for_lock

VALUE = 6144


def value(key: str, version: int = 0) -> bytes:
    return (f"{key} {version} ".encode() * 1000)[:VALUE]


class Disk:
    """A directory on a disk that can be filled up, and given room again."""

    def __init__(self, directory: Path, fill_up: Callable[[], None], relieve: Callable[[], None]) -> None:
        self.directory = directory
        self.fill_up = fill_up
        self.relieve = relieve


def fill_with_a_file(path: Path) -> None:
    """Take up all the room that is left, to the last byte."""
    with path.open("ab", buffering=0) as file:
        for size in (2**16, 2**12, 1):
            while True:
                try:
                    file.write(bytes(size))
                except OSError:
                    break


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "tmpfs", "size=8m") as place:
        yield place


@pytest.fixture(params=["a small disk", "short files"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "a small disk":
        place = request.getfixturevalue("small_disk")
        other = place / "others"
        yield Disk(place / "cache", lambda: fill_with_a_file(other), lambda: other.unlink(missing_ok=True))
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def longest(size: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        yield Disk(tmp_path / "cache", lambda: longest(2**21), lambda: longest(before[0]))
    finally:
        longest(before[0])


def tier_on(disk: Disk) -> DiskTier:
    return DiskTier(disk.directory, max_bytes="64MiB")


def fill(tier: DiskTier, name: str = "key", *, expires_at: float | None = None) -> list[str]:
    """The keys that the tier took until it was full, in batches of ten."""
    taken: list[str] = []
    while len(taken) < 3000:
        batch = [f"{name} {number}" for number in range(len(taken), len(taken) + 10)]
        try:
            tier.mset({key: Entry(value(key), expires_at=expires_at) for key in batch})
        except TierFull:
            return taken
        taken += batch
    pytest.fail("it never became full")


def test_reads_and_deletes_go_on_and_room_is_found_again(disk: Disk) -> None:
    tier = tier_on(disk)
    tier.mset({"first": Entry(b"x")})
    disk.fill_up()
    taken = fill(tier)
    assert tier.mget(taken).keys() == {*taken}
    for turn in range(3):  # not only once
        tier.mdelete(taken[turn::10])
        assert tier.mget(taken[turn::10]) == {}
    fill(tier, "more")
    left = [key for number, key in enumerate(taken) if number % 10 > 2]
    assert {key: entry.value for key, entry in tier.mget(left).items()} == {key: value(key) for key in left}
    disk.relieve()
    tier.mset({key: Entry(value(key)) for key in taken})
    assert tier.mget(taken).keys() == {*taken}
    tier.close()


@pytest.mark.parametrize("gone", ["deleted", "expired"])
@pytest.mark.parametrize("large", [2**15, 2**19])
def test_the_room_of_what_is_gone_takes_values_of_any_size(small_disk: Path, gone: str, large: int) -> None:
    clock = FakeClock()
    tier = DiskTier(small_disk / "cache", max_bytes="64MiB", clock=clock)
    tier.mset({"first": Entry(b"x")})
    taken = fill(tier, expires_at=clock.time() + 60 if gone == "expired" else None)
    assert len(taken) * VALUE > 4 * large
    fill_with_a_file(small_disk / "others")
    if gone == "deleted":
        tier.mdelete(taken)
    clock.advance(61)
    for expected in (os.urandom(large), os.urandom(large)):
        tier.mset({"large": Entry(expected)})
        held = tier.mget(["large", "first", *taken])
        assert {key: entry.value for key, entry in held.items()} == {"large": expected, "first": b"x"}
    tier.close()


def test_a_reader_in_the_way_costs_deletes_no_room(small_disk: Path) -> None:
    tier = DiskTier(small_disk / "cache", max_bytes="64MiB")
    taken = fill(tier)
    tier.mdelete(taken[: len(taken) // 2])
    fill_with_a_file(small_disk / "others")
    with closing(sqlite3.connect(small_disk / "cache" / "cache.db")) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM Cache").fetchone()
        ballast = small_disk / "cache" / "cache.db.ballast"
        before = ballast.stat().st_size
        for number in range(4):
            with suppress(TierFull):
                tier.mset({f"more {number}": Entry(bytes(2**15))})
        assert ballast.stat().st_size >= before
        tier.mdelete(taken[-5:])
        assert tier.mget(taken[-5:]) == {}
    tier.close()


def test_a_clear_works(disk: Disk) -> None:
    tier = tier_on(disk)
    tier.mset({"first": Entry(b"x")})
    disk.fill_up()
    taken = fill(tier)
    tier.clear("")
    assert tier.scan("") == ([], None)
    assert tier.mget(taken) == {}
    again = {key: Entry(value(key)) for key in taken[:10]}  # in the room that this made, behind the caller
    sooner_or_later(lambda: tier.mset(again), TierFull)
    assert tier.mget(taken).keys() == {*taken[:10]}
    tier.close()


def test_it_can_be_opened(disk: Disk) -> None:
    tier = tier_on(disk)
    tier.mset({"first": Entry(b"x")})
    disk.fill_up()
    taken = fill(tier)
    tier.close()
    disk.fill_up()  # what closing left
    again = tier_on(disk)
    assert again.mget(["first"])["first"].value == b"x"
    assert again.mget(taken).keys() == {*taken}
    again.mdelete(taken[:1])
    assert again.mget(taken[:1]) == {}
    again.close()


def test_a_value_that_cannot_be_overwritten_is_not_served_on(disk: Disk) -> None:
    tier = tier_on(disk)
    long = "a key that is not its own row's" * 20
    tier.mset({long: Entry(b"old"), "short": Entry(b"old"), "another": Entry(b"kept")})
    disk.fill_up()
    taken = fill(tier)
    overwritten = [long, "short", "nothing yet", *taken[:10]]
    with pytest.raises(TierFull):
        tier.mset({key: Entry(os.urandom(2**18)) for key in overwritten})
    assert tier.mget([*overwritten, "another"]).keys() == {"another"}
    tier.close()


def test_a_chain_names_the_tier_counts_and_deletes(disk: Disk, told: Told) -> None:
    tier = tier_on(disk)
    with TieredCache([MemoryTier(max_entries=2), tier], promote="inline") as cache:
        cache.mset({"a": b"a", "b": b"b"})
        disk.fill_up()
        fill(tier)
        results = [cache.set(f"big {number}", os.urandom(2**21)) for number in range(5)]
        assert {result.failed for result in results} == {("disk",)}
        assert {result.accepted for result in results} == {("memory",)}
        stats = cache.stats().tiers[1]
        assert stats.errors == 5
        assert stats.skipped == 0  # a disk that is full is not left alone: it can delete
        assert cache.delete("a").ok
        assert cache.mget(["a", "b"]) == [None, b"b"]
        cache.clear()
        assert cache.mget(["a", "b", "big 4"]) == [None, None, None]
        disk.relieve()
        assert cache.set("c", b"c").ok
    told("disk full", "reads, deletes and clears go on, sets skip the tier and are counted, recovers")


def test_what_another_tier_missed_is_noted_all_the_same(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    held: dict[str, Entry[bytes]] = {}
    server = LossyTier(held)
    with TieredCache([MemoryTier(), tier_on(disk), server]) as cache:
        cache.set("k", b"old")
        disk.fill_up()
        fill(cache._stack.guards[1].tier)
        server.down = True
        assert cache.set("k", bytes(3 * 2**20)).failed == ("disk", "L3")
    restart_process(monkeypatch)
    with TieredCache([tier_on(disk), LossyTier(held)]) as cache:
        assert cache.get("k") is None
        assert held == {}
    disk.relieve()


def test_the_ballast_comes_back_when_there_is_room(disk: Disk) -> None:
    tier = tier_on(disk)
    tier.mset({"first": Entry(b"x")})
    ballast = disk.directory / "cache.db.ballast"
    whole = ballast.stat().st_size
    assert whole >= 16 * 8192
    assert ballast.stat().st_blocks * 512 >= whole
    disk.fill_up()
    taken = fill(tier)
    with ballast.open("r+b") as file:
        file.truncate(0)  # as a process that was killed while it had it
    tier.close()
    disk.relieve()
    again = tier_on(disk)
    assert again.mget(taken).keys() == {*taken}
    assert ballast.stat().st_size == whole
    assert ballast.stat().st_mode & 0o777 == 0o600
    again.close()


def test_a_ballast_that_is_still_being_filled_means_no_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = DiskTier(tmp_path)
    tier.mset({"first": Entry(b"x")})
    ballast = tmp_path / "cache.db.ballast"
    whole = ballast.stat().st_size
    waiting = threading.Event()

    def told(*args: object) -> None:
        waiting.set()
        wait_for_lock(*args)

    monkeypatch.setattr(_ballast, "wait_for_lock", told)
    with pool(1) as threads, ballast.open("r+b") as filling:
        fcntl.flock(filling, fcntl.LOCK_EX)  # as another process that has just made the directory
        filling.truncate(0)
        done = threads.submit(tier.mset, {"second": Entry(b"y")})
        assert waiting.wait(LIMIT)
        filling.write(bytes(whole))
        filling.flush()
        fcntl.flock(filling, fcntl.LOCK_UN)
        done.result(LIMIT)
    assert tier.mget(["second"])["second"].value == b"y"
    tier.close()


def test_threads_and_processes_that_all_find_it_full(disk: Disk) -> None:
    code = """
import sys
from tiercache import DiskTier, Entry, TierFull
tier = DiskTier(sys.argv[1], max_bytes="64MiB", deadline=60)
me = sys.argv[2]
mine = [f"{me} {number}" for number in range(20)]
tier.mget(mine)
print("ready", flush=True)
sys.stdin.readline()
refused = 0
for number in range(60):
    try:
        tier.mset({f"{me} more {number} {part}": Entry(bytes(6144)) for part in range(10)})
    except TierFull:
        refused += 1
    key = mine[number % 20]
    tier.mdelete([key])
    assert not tier.mget([key])
assert refused
tier.close()
"""
    tier = DiskTier(disk.directory, max_bytes="64MiB", deadline=60)
    tier.mset({f"{me} {number}": Entry(value("v")) for me in range(3) for number in range(20)})
    disk.fill_up()
    fill(tier)
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(disk.directory), str(me)],
            stdin=pipe, stdout=pipe, stderr=pipe, text=True,
        )
        for me in range(2)
    ]  # fmt: skip
    failures: list[BaseException] = []

    def delete() -> None:
        try:
            for number in range(20):
                tier.mdelete([f"2 {number}"])
                assert not tier.mget([f"2 {number}"])
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            failures.append(error)

    for process in processes:
        wait_for(process, "ready")
    threads = [threading.Thread(target=delete) for _ in range(2)]
    for thread in threads:
        thread.start()
    told = [process.communicate("go\n", timeout=120) for process in processes]
    for thread in threads:
        thread.join(120)
    assert [process.returncode for process in processes] == [0, 0], "\n".join(map("".join, told))
    assert failures == []
    assert tier.mget([f"{me} {number}" for me in range(3) for number in range(20)]) == {}
    tier.close()
