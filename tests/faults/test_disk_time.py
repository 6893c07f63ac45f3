"""Somebody holds the database's lock, or a statement has no end: reads are not touched, and no call of the
tier takes longer than its deadline as a whole."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import pytest
from faults_table import Told, seconds
from places import sooner_or_later

from tiercache import DiskTier, Entry, MemoryTier, TieredCache, TierTimeout, WriteError
from tiercache.sqlite_gate import GATE
from tiercache.tiers.disk._door import Door

DEADLINE = 0.5
BOUND = 10 * DEADLINE  # of what is to take `DEADLINE`, on a machine that has better things to do
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def prepared(directory: Path) -> DiskTier:
    """A tier whose database is there already: making it takes as long as the disk wants."""
    ample = DiskTier(directory, deadline=60)
    ample.mset({"k": Entry(b"v"), "l": Entry(b"w")})
    ample.close()
    return DiskTier(directory, deadline=DEADLINE)


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[DiskTier]:
    made = prepared(tmp_path / "d")
    yield made
    made.close()


@contextmanager
def foreign_writer(directory: Path) -> Iterator[None]:
    with closing(sqlite3.connect(directory / "cache.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


def seconds_of(call: Callable[[], object]) -> float:
    """How long ``call`` took, which runs out of its time."""
    start = monotonic()
    with pytest.raises(TierTimeout):
        call()
    return monotonic() - start


def test_a_foreign_writer_holds_up_writers_alone(tier: DiskTier, told: Told) -> None:
    longest = 0.0
    with foreign_writer(tier.directory):
        for call in (
            lambda: tier.mset({"k": Entry(b"x")}),
            lambda: tier.mdelete(["k"]),
            lambda: tier.clear(""),
        ):
            longest = max(longest, seconds_of(call))
            assert DEADLINE * 0.9 < longest < BOUND
            assert tier.mget(["k", "l"]).keys() == {"k", "l"}
    told(
        "a foreign writer holds the disk tier's lock",
        f"reads go on; each write or delete raises after {seconds(longest)} (deadline {seconds(DEADLINE)})",
    )
    tier.mdelete(["k"])
    assert tier.mget(["k", "l"]).keys() == {"l"}


def test_a_chain_below_which_somebody_holds_the_lock(tmp_path: Path) -> None:
    tier = prepared(tmp_path / "d")
    memory = MemoryTier(max_entries=10)
    with TieredCache([memory, tier]) as cache:
        cache.mset({"k": b"old", "l": b"w"})
        memory.clear("")
        with foreign_writer(tier.directory):
            assert cache.mget(["l", "absent"]) == [b"w", None]
            result = cache.set("k", b"new")
            assert (result.accepted, result.failed) == (("memory",), ("disk",))
            assert cache.stats().tiers[1].timeouts > 0
            with pytest.raises(WriteError, match="disk"):
                cache.delete("l")
            assert cache.get("l") is None  # this process does not serve what it tried to delete
            assert cache.get("k") == b"new"
        sooner_or_later(lambda: cache.delete("l"), WriteError)  # it is left alone for a moment
        assert cache.mget(["k", "l"]) == [b"new", None]


def test_threads_that_wait_for_each_other_and_for_a_foreign_writer(tier: DiskTier) -> None:
    """The turn among the threads and the lock of the database are one wait, not two."""
    took: list[float] = []
    with foreign_writer(tier.directory):
        threads = [
            threading.Thread(target=lambda: took.append(seconds_of(lambda: tier.mdelete(["k"]))))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert len(took) == 4
    assert max(took) < BOUND


@pytest.mark.parametrize("verb", ["run", "write"])
def test_a_statement_without_an_end_is_interrupted(tier: DiskTier, verb: str) -> None:
    database = tier.store._database
    call = getattr(database, verb)
    assert DEADLINE * 0.9 < seconds_of(lambda: call(lambda c: c.execute(ENDLESS).fetchall())) < BOUND
    assert tier.mget(["k"])["k"].value == b"v"  # the next call has a time of its own
    tier.mset({"k": Entry(b"x")})
    assert tier.mget(["k"])["k"].value == b"x"


def test_a_write_that_is_interrupted_left_nothing(tier: DiskTier) -> None:
    def write(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM Cache")
        connection.execute(ENDLESS).fetchall()

    assert seconds_of(lambda: tier.store._database.write(write)) < BOUND
    assert tier.mget(["k", "l"]).keys() == {"k", "l"}


def test_what_waits_to_be_opened_has_one_deadline(tier: DiskTier) -> None:
    other = DiskTier(tier.directory, deadline=DEADLINE)
    with Door(tier.directory).alone(5):
        for call in (lambda: other.mget(["k"]), lambda: other.mset({"k": Entry(b"x")})):
            assert seconds_of(call) < BOUND
    assert other.mget(["k"])["k"].value == b"v"
    other.close()


def test_a_fork_in_progress_and_a_lock_are_one_wait(tier: DiskTier) -> None:
    forked = threading.Timer(DEADLINE / 2, GATE.after_fork_in_parent)
    with foreign_writer(tier.directory):
        GATE.before_fork()
        forked.start()
        assert seconds_of(lambda: tier.mset({"k": Entry(b"x")})) < BOUND
        forked.join()
    assert tier.mget(["k"])["k"].value == b"v"
