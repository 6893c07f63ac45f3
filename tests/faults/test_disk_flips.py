"""A chain over a database whose bytes are flipped, at rest and in use: no wrong value, no error from reads.

What damage of each kind does, and what becomes of the database, is told in the unit tests of the disk tier.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from faults_table import Told

from tiercache import DiskTier, MemoryTier, TieredCache

KEYS = [f"key {number}" for number in range(200)]


def value(key: str) -> bytes:
    return f"{key}.".encode() * 50


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a closed tier that holds `KEYS`."""
    directory = tmp_path_factory.mktemp("whole") / "d"
    with TieredCache([DiskTier(directory, max_bytes="1MiB")]) as cache:
        cache.mset({key: value(key) for key in KEYS})
    return (directory / "cache.db").read_bytes()


def read_through(directory: Path, damage: Callable[[], object], *, opened: bool) -> dict[str, int]:
    """How many keys were hits, and how many of those wrong, with ``damage`` done before the tier is opened or
    after; a second look comes after the repair."""
    figures = {"hits": 0, "wrong": 0}
    if not opened:
        damage()
    memory = MemoryTier(max_entries=50)
    with TieredCache([memory, DiskTier(directory, max_bytes="1MiB")]) as cache:
        if opened:
            cache.mget(KEYS)
            cache.flush()
            memory.clear("")
            damage()
        for _ in range(2):
            found = dict(zip(KEYS, cache.mget(KEYS), strict=True))
            figures["hits"] += sum(got is not None for got in found.values())
            figures["wrong"] += sum(got is not None and got != value(key) for key, got in found.items())
            cache.flush()
            memory.clear("")
    return figures


def database_of(directory: Path, whole: bytes) -> Path:
    DiskTier(directory).close()
    (directory / "cache.db").write_bytes(whole)
    return directory / "cache.db"


def flip(path: Path, source: random.Random, count: int) -> None:
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(count):
            # Every other one where the schema and the roots of the tables are.
            at = source.randrange(size if source.random() < 0.5 else 4 * 8192)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << source.randrange(8)]))


@pytest.mark.parametrize("opened", [False, True], ids=["at rest", "in use"])
def test_five_hundred_flipped_bytes(tmp_path: Path, whole: bytes, opened: bool, told: Told) -> None:
    source = random.Random(11)
    flipped = hits = wrong = 0
    for round_, count in enumerate([1] * 10 + [10] * 9 + [50] * 8):
        directory = tmp_path / f"round {round_}"
        database = database_of(directory, whole)
        figures = read_through(directory, lambda: flip(database, source, count), opened=opened)  # noqa: B023 - called at once
        assert figures["wrong"] == 0, round_
        hits += figures["hits"]
        wrong += figures["wrong"]
        flipped += count
    told(
        "random bytes of the database flipped", f"{flipped} bytes: {wrong} wrong of {hits:,} values, no error"
    )
    assert flipped == 500
    assert hits > len(KEYS)  # some rounds left most of it


def cut(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("opened", [False, True], ids=["at rest", "in use"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(bytes(100) + path.read_bytes()[100:]),
        lambda path: cut(path, 0),
        lambda path: cut(path, 8192),
        lambda path: cut(path, path.stat().st_size // 2),
        lambda path: cut(path, path.stat().st_size - 1),
        lambda path: path.unlink(),
    ],
    ids=["header gone", "empty", "one page", "half", "all but a byte", "gone"],
)
def test_a_file_that_is_no_longer_whole(
    tmp_path: Path, whole: bytes, damage: Callable[[Path], object], opened: bool, told: Told
) -> None:
    database = database_of(tmp_path / "d", whole)
    figures = read_through(tmp_path / "d", lambda: damage(database), opened=opened)
    told("header gone, file cut short, empty or gone", f"{figures['wrong']} wrong values, no error")
    assert figures["wrong"] == 0
