"""What a key costs as there are more of them: on disk, in SQLite, and in memory.

``--scale full`` goes up to 1,000,000 on disk and in SQLite and 10,000,000 in memory; else it stays small.
Values of 100 bytes below memory, and one value for all keys within it. Keys are read in random order.
"""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from benchmarks.contest import Contest
from benchmarks.raw_sqlite import Table
from benchmarks.settled import settled
from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache

LENGTH = 100
SIZES = {
    "below": {"small": (1_000, 10_000), "full": (1_000, 10_000, 100_000, 1_000_000)},
    "memory": {"small": (10_000, 100_000), "full": (10_000, 100_000, 1_000_000, 10_000_000)},
}
#: What waits for what each cache does behind its callers.
settles: dict[TieredCache[bytes], Callable[[], None]] = {}
#: Bytes of memory that a key is reckoned at, with what is there for a while only.
NEEDED = 800


def tier(kind: str, folder: Path) -> Any:
    if kind == "disk":
        return DiskTier(folder, deadline="60s", max_bytes="20GiB")
    return SQLTier(f"sqlite:///{folder}/table.db", deadline="60s")


@pytest.fixture(scope="module", params=["disk", "sqlite"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[int, tuple[Path, TieredCache[bytes]]]]]:
    """A cache with so many entries, for each size."""
    kind: str = request.param
    made = {}
    with ExitStack() as stack:
        for size in SIZES["below"][request.config.getoption("--scale")]:
            folder = tmp_path_factory.mktemp(f"{kind}-{size}")
            one = tier(kind, folder)
            cache = stack.enter_context(TieredCache([one], ttl="1d"))
            settles[cache] = settled(cache, one)
            for keys in batches(size):
                assert cache.mset({key: os.urandom(LENGTH) for key in keys}).ok
            settles[cache]()
            made[size] = (folder, cache)
        yield kind, made


def batches(size: int) -> Iterator[list[str]]:
    """All keys, 1,000 at once."""
    for at in range(0, size, 1000):
        yield [f"key-{number}" for number in range(at, min(size, at + 1000))]


def some(size: int, count: int) -> Callable[[], tuple[list[str]]]:
    generator = random.Random(size)
    return lambda: ([f"key-{generator.randrange(size)}" for _ in range(count)],)


def test_reads(hold: Any, filled: Any, tmp_path: Path) -> None:
    """On disk beside the bare table, which grows dearer too: the more there is, the less of it the processor
    has at hand."""
    kind, made = filled
    contest = Contest(f"scale-{kind}-mget", f"`mget` of 1,000 among so many, {kind}", size=1000)
    with ExitStack() as stack:
        for size, (_, cache) in made.items():
            contest.add(named(size), cache.mget, prepare=some(size, 1000), calls=3, point=("mget", size))
            if kind == "disk":
                table = stack.enter_context(closing(Table(tmp_path / f"{size}.db")))
                for keys in batches(size):
                    table.put({key: os.urandom(LENGTH) for key in keys})
                contest.add(
                    f"raw sqlite3, {size:,}",
                    table.get,
                    prepare=some(size, 1000),
                    calls=3,
                    point=("raw sqlite3", size),
                )
        if kind == "disk" and 1_000_000 in made:
            contest.at_most(1.5, of=named(10_000), who=named(1_000_000))
        hold(contest)
    assert all(cache.stats().misses == 0 for _, cache in made.values())


def test_writes(hold: Any, filled: Any) -> None:
    """Of keys that are there, so that sizes stay."""
    kind, made = filled
    contest = Contest(f"scale-{kind}-mset", f"`mset` of 1,000 that are among so many, {kind}", size=1000)
    for size, (_, cache) in made.items():

        def prepare(
            keys: Callable[[], tuple[list[str]]] = some(size, 1000),  # noqa: B008 - one generator a size
        ) -> tuple[dict[str, bytes]]:
            return ({key: os.urandom(LENGTH) for key in keys()[0]},)

        contest.add(named(size), cache.mset, prepare=prepare, point=("mset", size), settle=settles[cache])
    hold(contest)


def test_database_size(hold: Any, filled: Any) -> None:
    """All files of the folder, the write-ahead log and the ballast of a disk tier included, over the bytes of
    keys and values."""
    kind, made = filled
    contest = Contest(
        f"scale-{kind}-bytes", f"Files over keys and values, {kind}", thing="entry", unit="bytes"
    )
    for size, (folder, _) in made.items():

        def over(size: int = size, folder: Path = folder) -> float:
            payload = sum(len(f"key-{number}") for number in range(size)) + size * LENGTH
            return (sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) - payload) / size

        contest.add(named(size), over, point=("over keys and values", size))
    hold(contest)


#: Reads 10,000 keys of a cache and tells what is resident then over what was before it was opened.
RESIDENT = """
import sys
from pathlib import Path
from benchmarks.test_scale import some, tier
from tiercache import TieredCache
def resident():
    with open("/proc/self/statm") as file:
        pages = [int(word) for word in file.read().split()]
    return (pages[1] - pages[2]) * 4096
kind, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
before = resident()
with TieredCache([tier(kind, folder)]) as cache:
    for _ in range(10):
        cache.mget(*some(size, 1000)())
    print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is resident")
def test_resident_memory(hold: Any, filled: Any) -> None:
    """Of a process that reads 10,000 keys, without what it shares with the file cache."""
    kind, made = filled
    contest = Contest(f"scale-{kind}-resident", f"Resident memory, {kind}", thing="process", unit="bytes")
    for size, (folder, _) in made.items():
        command = [sys.executable, "-c", RESIDENT, kind, str(folder), str(size)]
        contest.add(named(size), lambda command=command: told(command), point=("resident", size))
    hold(contest)


def named(size: int) -> str:
    return f"tiercache, {size:,}"


# -- memory ----------------------------------------------------------------------------------------


def of_memory(size: int) -> TieredCache[bytes]:
    """With ``size`` entries, and room for more."""
    cache = TieredCache([MemoryTier(max_entries=2 * size + 1_000_000, max_bytes=None)], ttl="1h")
    gc.disable()  # which would look through all that there is, again and again, and find nothing
    for at in range(0, size, 1000):
        cache.mset(dict.fromkeys((f"{number:08}" for number in range(at, at + 1000)), b"x"))
    gc.enable()
    return cache


def sizes_in_memory(request: pytest.FixtureRequest, contest: Contest) -> Iterator[int]:
    """Those that there is memory for; the contest says which are left out."""
    for size in SIZES["memory"][request.config.getoption("--scale")]:
        needed, free = size * NEEDED, psutil.virtual_memory().available
        if needed <= free:
            yield size
        else:
            reason = f"takes some {needed / 1e9:.0f} GB of memory, and {free / 1e9:.1f} GB were free"
            contest.absent(named(size), reason)


def test_memory(hold: Any, request: pytest.FixtureRequest) -> None:
    """Keys are new objects each time: what is found is compared, not only known again."""
    contest = Contest("scale-memory", "One key among so many in memory, new key objects", size=1000)
    with ExitStack() as stack:
        for size in sizes_in_memory(request, contest):
            cache = stack.enter_context(of_memory(size))
            generator, numbers = random.Random(size), iter(range(1 << 60))

            def hit(keys: list[str], get: Callable[[str], Any] = cache.get) -> None:
                for key in keys:
                    get(key)

            def put(keys: list[str], put: Callable[[str, bytes], Any] = cache.set) -> None:
                for key in keys:
                    put(key, b"x")

            def held(size: int = size, generator: random.Random = generator) -> tuple[list[str]]:
                return ([f"{generator.randrange(size):08}" for _ in range(1000)],)

            def unheard(numbers: Iterator[int] = numbers) -> tuple[list[str]]:
                return ([f"new-{next(numbers)}" for _ in range(1000)],)

            contest.add(f"get, {size:,}", hit, prepare=held, calls=3, point=("get", size))
            contest.add(f"set, new key, {size:,}", put, prepare=unheard, point=("set, new key", size))
        hold(contest)


#: Tells what is resident for each entry, its key included; the values are one.
MEMORY = """
import sys
from benchmarks.test_scale import of_memory
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
size = int(sys.argv[1])
before = resident()
cache = of_memory(size)
print((resident() - before) / size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is resident")
def test_memory_per_key(hold: Any, request: pytest.FixtureRequest) -> None:
    contest = Contest(
        "scale-memory-bytes", "Resident memory of an entry among so many", thing="entry", unit="bytes"
    )
    for size in sizes_in_memory(request, contest):
        command = [sys.executable, "-c", MEMORY, str(size)]
        contest.add(named(size), lambda command=command: told(command), point=("resident", size))
    hold(contest)


def told(command: list[str]) -> float:
    """The number that it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    return float(done.stdout)
