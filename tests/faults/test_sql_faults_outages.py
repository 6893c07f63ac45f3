"""Databases fail: the deadline is ours, whatever the driver waits for, and nobody else's answer is read."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from faults.scenarios_network import (
    KEYS,
    backends,
    patiently,
    postgres_backend,
    postgres_stopped,
    sql_tier,
    stopped,
)
from faults_table import Told
from places import sooner_or_later

from tiercache import Entry, MemoryTier, SQLTier, TieredCache, TierTimeout
from tiercache.tiers.sql._bounded import watch_connection
from tiercache.tiers.sql._connections import Connection
from tiercache.tiers.sql._dialects import Step
from tiercache.watchdog import Call

both = pytest.mark.parametrize("awaited", [False, True], ids=["blocking", "awaited"])
#: The figure aimed at is 0.4 s; without a deadline of ours it is 15 s and more.
BOUND = 4.0


@both
def test_a_stopped_backend_costs_the_deadline_once(awaited: bool, postgres_url: str, told: Told) -> None:
    figures = postgres_backend(postgres_url, "stopped", awaited=awaited)
    told(figures.fault, str(figures))
    assert figures.first_read < BOUND
    assert (figures.found, figures.failures, figures.wrong) == (0, 1, 0)


@both
def test_a_terminated_backend_is_no_error(awaited: bool, postgres_url: str, told: Told) -> None:
    figures = postgres_backend(postgres_url, "terminated", awaited=awaited, deadline=30)
    told(figures.fault, str(figures))
    assert (figures.found, figures.failures, figures.wrong) == (99, 0, 0)


@both
def test_a_stopped_server_is_a_miss_and_then_costs_nothing(
    awaited: bool, breaker: dict[str, Any], told: Told
) -> None:
    """Nobody answers new connections either."""
    figures = postgres_stopped(awaited=awaited, **breaker)
    told(figures.fault, str(figures))
    assert figures.wrong == 0
    assert figures.first_read < BOUND
    assert figures.failures >= 3
    assert figures.skipped >= 30


@both
def test_writes_and_deletes_end_with_the_deadline_too(awaited: bool, postgres_url: str) -> None:
    tier = sql_tier(postgres_url, breaker_failures=None)
    with asyncio.Runner() as runner:

        def call(verb: str, *args: object) -> object:
            return runner.run(getattr(tier, f"a{verb}")(*args)) if awaited else getattr(tier, verb)(*args)

        for verb, argument in (
            ("mset", {"key": Entry(b"v")}),
            ("mdelete", ["key"]),
            ("mget", ["key"]),
            ("scan", ""),
            ("clear", ""),
        ):
            sooner_or_later(lambda: call("mget", ["key"]), TierTimeout)  # on a new connection
            with (
                stopped(*backends(postgres_url)),
                pytest.raises(TierTimeout, match=r"no answer within 0\.25 s"),
            ):
                call(verb, argument)
        runner.run(tier.aclose())


def test_a_cancelled_call_ends_at_once_though_its_server_does_not_answer(postgres_url: str) -> None:
    """psycopg would ask that server to cancel the query, and wait for the answer."""
    tier = sql_tier(postgres_url, deadline=3600)

    async def main() -> None:
        await tier.amget(["key"])
        with stopped(*await asyncio.to_thread(backends, postgres_url)):
            call = asyncio.create_task(tier.amget(["key"]))
            while not sent(tier):  # noqa: ASYNC110 - psycopg has no event for it
                await asyncio.sleep(0)
            call.cancel()
            done, _ = await asyncio.wait([call], timeout=BOUND)
            assert done == {call}
            assert call.cancelled()
            assert await tier.amget(["key"]) == {}
        await tier.aclose()

    asyncio.run(main())


def sent(tier: SQLTier) -> bool:
    """Whether a connection of ours waits for its server."""
    loops = tier.store._loops._engines.values()
    waiting = psycopg.pq.TransactionStatus.ACTIVE
    return any(
        connection.info.transaction_status == waiting for own in loops for connection in own.connections
    )


def test_connections_are_waited_for_no_longer_than_the_deadline(postgres_url: str) -> None:
    tier = sql_tier(postgres_url)
    patiently(lambda: tier.mget(["key"]))
    turns = tier.store._turns
    for _ in range(15):
        turns.acquire()  # as slow calls of other threads would
    with pytest.raises(TierTimeout):
        tier.mget(["key"])
    for _ in range(15):
        turns.release()
    assert patiently(lambda: tier.mget(["key"])) == {}
    tier.close()


def test_threads_on_stopped_backends_leave_the_pool_whole(postgres_url: str) -> None:
    tier = sql_tier(postgres_url, breaker_failures=None)
    patient = SQLTier(postgres_url, deadline=60, table="faults")
    patient.mset({key: Entry(key.encode()) for key in KEYS})
    gate = threading.Barrier(8)

    def work(results: list[object]) -> None:
        gate.wait(60)
        try:
            results.append(tier.mget(list(KEYS)))
        except TierTimeout as error:
            results.append(error)

    def all_at_once() -> list[object]:
        results: list[object] = []
        threads = [threading.Thread(target=work, args=(results,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(results) == 8
        return results

    all_at_once()
    with stopped(*backends(postgres_url)):
        timed_out = [result for result in all_at_once() if isinstance(result, TierTimeout)]
    assert timed_out
    # Whoever is lent a connection now reads what it asked for, and every connection can be lent.
    for number in range(30):
        assert patient.mget([KEYS[number]])[KEYS[number]].value == KEYS[number].encode()
    assert [tier.store._turns.acquire(timeout=0) for _ in range(16)] == [True] * 15 + [False]
    patient.close()
    tier.close()


# -- SQLite ----------------------------------------------------------------------------------------


def test_a_statement_of_sqlite_is_interrupted(tmp_path: Path) -> None:
    tier = SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=0.25)
    patiently(lambda: tier.mset({"key": Entry(b"v")}))
    endless = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    def plan() -> object:
        yield Step(endless)

    with pytest.raises(TierTimeout, match=r"no answer within 0\.25 s"):
        tier.store._run(plan)
    assert patiently(lambda: tier.mget(["key"]))["key"].value == b"v"
    tier.close()


def test_a_lock_in_sqlite_is_a_counted_time_out(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    with TieredCache([MemoryTier(), SQLTier(f"sqlite:///{path}", deadline=2)]) as cache:
        assert cache.set("before", b"v").ok
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert cache.set("meanwhile", b"v").failed == ("sql",)
            assert cache.stats().tiers[1].timeouts == 1
            other.execute("ROLLBACK")
        assert cache.set("after", b"v").ok
    with TieredCache([SQLTier(f"sqlite:///{path}")]) as cache:
        assert cache.mget(["before", "after"]) == [b"v", b"v"]


@contextmanager
def lent(tier: SQLTier) -> Iterator[Connection]:
    """The connection that the next call would have."""
    connection = tier.store._connections.lend()
    yield connection
    tier.store._connections.take_back(connection)


def test_a_lock_in_sqlite_gets_what_is_left_of_the_deadline(tmp_path: Path) -> None:
    """Waiting for a connection took most of it."""
    tier = SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=60)
    tier.mset({"key": Entry(b"v")})
    with Call(1) as call, lent(tier) as connection:
        watch_connection(call, connection, "sqlite", busy=60).end()
        [[milliseconds]] = connection.driver_connection.execute("PRAGMA busy_timeout").fetchall()
        assert 0 < milliseconds <= 1000
    tier.mget(["key"])
    with lent(tier) as connection:
        [[milliseconds]] = connection.driver_connection.execute("PRAGMA busy_timeout").fetchall()
        assert 59_000 < milliseconds <= 60_000  # the same connection has all of it again
    tier.close()
