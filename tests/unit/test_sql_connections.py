"""The blocking connections of a SQL store: how many there are, who has them, and when they end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tiercache import CacheClosed, Entry, SQLTier
from tiercache.tiers.sql._dialects import Step

ALL = 15  # connections at a time


class Counted:
    """A tier on a file, and how many connections to it are open."""

    def __init__(self, path: Path) -> None:
        self.tier = SQLTier(f"sqlite:///{path}/cache.db", deadline=60)
        self.made: list[Any] = []
        self.ended: list[Any] = []
        event.listen(self.tier.store._engine, "connect", lambda connection, _: self.made.append(connection))
        event.listen(self.tier.store._engine, "close", lambda connection, _: self.ended.append(connection))

    @property
    def open(self) -> int:
        return len(self.made) - len(self.ended)


@pytest.fixture
def counted(tmp_path: Path) -> Iterator[Counted]:
    counted = Counted(tmp_path)
    counted.tier.mset({"key": Entry(b"v")})
    yield counted
    counted.tier.close()
    assert counted.open == 0


def waiting(arrived: threading.Semaphore, gate: threading.Event) -> Any:
    """A plan that is in the middle of its answers until the gate opens."""

    def plan() -> Any:
        yield Step("SELECT 1")
        arrived.release()
        gate.wait(60)
        return (yield Step("SELECT 2"))

    return plan


def test_calls_one_after_another_have_one_connection(counted: Counted) -> None:
    for _ in range(20):
        assert counted.tier.mget(["key"])["key"].value == b"v"
    assert len(counted.made) == 1


def test_threads_have_one_each_up_to_a_bound_and_a_few_are_kept(counted: Counted) -> None:
    arrived, gate = threading.Semaphore(0), threading.Event()
    with ThreadPoolExecutor(2 * ALL) as pool:
        calls = [pool.submit(counted.tier.store._run, waiting(arrived, gate)) for _ in range(2 * ALL)]
        for _ in range(ALL):
            assert arrived.acquire(timeout=60)
        assert counted.open == ALL
        assert not arrived.acquire(timeout=0)  # the others wait for their turn
        gate.set()
        assert [call.result(60) for call in calls] == [[(2,)]] * (2 * ALL)
    assert len(counted.made) == ALL
    assert counted.open == 5


def test_many_threads_never_have_more_than_the_bound(counted: Counted) -> None:
    most = 0

    def work(_: int) -> None:
        nonlocal most
        for _ in range(20):
            assert counted.tier.mget(["key"])["key"].value == b"v"
            most = max(most, counted.open)

    with ThreadPoolExecutor(2 * ALL) as pool:
        list(pool.map(work, range(2 * ALL)))
    assert most <= ALL
    assert counted.open <= 5


def test_a_tier_that_is_closed_amid_a_call_ends_its_connection_after_it(counted: Counted) -> None:
    counted.tier.mget(["key"])
    arrived, gate = threading.Semaphore(0), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(counted.tier.store._run, waiting(arrived, gate))
        assert arrived.acquire(timeout=60)
        counted.tier.close()
        assert counted.open == 1
        with pytest.raises(CacheClosed):
            counted.tier.mget(["key"])
        gate.set()
        assert call.result(60) == [(2,)]
    assert counted.open == 0


def test_a_call_whose_turn_comes_after_the_tier_was_closed_makes_no_connection(counted: Counted) -> None:
    """To a database in memory it would be one to a new, empty one."""
    arrived, gate = threading.Event(), threading.Event()
    turns = counted.tier.store._turns
    assert turns is not None

    class Held:
        def acquire(self, timeout: float) -> bool:
            arrived.set()
            return gate.wait(60) and turns.acquire(timeout)

        release = turns.release

    counted.tier.store._turns = Held()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(counted.tier.mget, ["key"])
        assert arrived.wait(60)
        counted.tier.close()
        gate.set()
        with pytest.raises(CacheClosed):
            call.result(60)
    assert len(counted.made) == 1
    assert [turns.acquire(timeout=0) for _ in range(ALL + 1)] == [True] * ALL + [False]


def test_an_interrupted_call_drops_its_connection(counted: Counted) -> None:
    def plan() -> Any:
        yield Step("SELECT 1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        counted.tier.store._run(plan)
    assert counted.open == 0
    assert counted.tier.mget(["key"])["key"].value == b"v"
    assert counted.open == 1


def test_an_error_in_a_transaction_leaves_the_connection_without_it(counted: Counted) -> None:
    def plan() -> Any:
        yield Step("BEGIN IMMEDIATE")
        yield Step("SELECT 1 FROM nowhere")

    with pytest.raises(Exception, match="no such table"):
        counted.tier.store._run(plan)
    assert counted.open == 1
    [connection] = counted.made
    assert not connection.in_transaction


def test_what_a_call_of_the_parent_had_is_lent_to_nobody_in_the_child(counted: Counted) -> None:
    connections = counted.tier.store._connections
    before = [connections.lend() for _ in range(ALL)]
    connections.after_fork()  # as in a child that was forked in the middle of these calls
    for connection in before[:-1]:
        connections.take_back(connection)
    connections.drop(before[-1])
    after = connections.lend()
    assert after not in before
    connections.take_back(after)
    connections.end_idle()
    assert counted.ended == [after.driver_connection]  # the parent goes on with the others
    for connection in before:
        connection.pooled.close()
