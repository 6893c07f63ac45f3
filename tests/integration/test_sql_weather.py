"""`SQLTier` when things go wrong around it: threads, forks, other processes, lost connections, locks."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from forked import exit_code
from selections import usually
from servers.databases import DATABASES, DEADLINE, Database

from tiercache.entry import Entry
from tiercache.errors import TierTimeout, TierUnavailable
from tiercache.tiers.sql import SQLTier

Open = Callable[..., Database]
SERVERS = [kind for kind in DATABASES if kind != "sqlite"]
spawn = multiprocessing.get_context("spawn")


def entries(values: dict[str, bytes]) -> dict[str, Entry[bytes]]:
    return {key: Entry(value) for key, value in values.items()}


# -- threads and tasks -----------------------------------------------------------------------------


def test_threads_share_a_tier(blocking: Database) -> None:
    tier = blocking.tier()
    start = threading.Barrier(8)

    def work(mine: int) -> None:
        start.wait()
        for turn in range(5):
            values = {f"{mine} {n}": b"%d" % turn for n in range(50)}
            blocking.put(tier, values | {"shared": b"x"})  # the first of these calls race to make the table
            assert blocking.get(tier, list(values)) == values
            tier.mdelete([f"{mine} {n}" for n in range(0, 50, 2)])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert blocking.rows() == 8 * 25 + 1


def test_threads_share_a_database_in_memory() -> None:
    tier = SQLTier("sqlite://", deadline=DEADLINE)

    def work(mine: int) -> dict[str, bytes]:
        tier.mset(entries({f"{mine} {n}": b"v" for n in range(100)}))
        return {key: entry.value for key, entry in tier.mget([f"{mine} 0"]).items()}

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(work, range(6))) == [{f"{mine} 0": b"v"} for mine in range(6)]
    assert len(tier.mget([f"{mine} {n}" for mine in range(6) for n in range(100)])) == 600
    tier.close()


def test_upserts_and_deletes_of_the_same_keys_do_not_deadlock(blocking: Database) -> None:
    tier = blocking.tier()
    keys = [f"k{n}" for n in range(300)]
    start = threading.Barrier(6)

    def work(mine: int) -> None:
        order = keys if mine % 2 else keys[::-1]
        start.wait()
        for _ in range(8):
            if mine < 4:
                tier.mset(entries(dict.fromkeys(order, b"%d" % mine)))
            else:
                tier.mdelete(order)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert {entry.value for entry in tier.mget(keys).values()} <= {b"0", b"1", b"2", b"3"}


@pytest.mark.parametrize("kind", SERVERS)
def test_several_loops_and_threads_share_a_tier(kind: str, open_database: Open) -> None:
    database = open_database(kind)
    tier = database.tier()

    async def tasks(mine: int) -> None:
        async def one(n: int) -> None:
            await tier.amset(entries({f"{mine} {n}": b"v"}))
            assert (await tier.amget([f"{mine} {n}"]))[f"{mine} {n}"].value == b"v"

        await asyncio.gather(*(one(n) for n in range(30)))

    def work(mine: int) -> None:
        if mine % 2:
            asyncio.run(tasks(mine))
        else:
            tier.mset(entries({f"{mine} {n}": b"v" for n in range(30)}))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert database.rows() == 120


def _run_and_close(coroutine: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.new_event_loop()
    loop.run_until_complete(coroutine)
    loop.close()


@pytest.mark.parametrize("run", [asyncio.run, _run_and_close])
def test_a_loop_that_just_ends_leaves_no_connection(run: Callable[..., None], open_database: Open) -> None:
    """Warnings are errors here: neither a coroutine nor a connection may be left over."""
    database = open_database("postgresql")
    tier = database.tier(url=f"{database.url}&application_name={database.table}")

    async def use() -> None:
        await tier.amset(entries({"k": b"v"}))

    for _ in range(3):
        run(use())
    gc.collect()
    _wait_for_backends(database, at_most=1)  # the last loop's
    tier.close()
    _wait_for_backends(database, at_most=0)


def _wait_for_backends(database: Database, *, at_most: int) -> set[int]:
    """The pids of the server's processes for the test's tier; it takes its time to notice an end."""
    with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as connection:
        for _ in range(500):
            found = connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = %s", (database.table,)
            ).fetchall()
            if len(found) <= at_most:
                return {pid for (pid,) in found}
            connection.execute("SELECT pg_sleep(0.01)")
    pytest.fail("a connection was left open")


@pytest.mark.parametrize("kind", SERVERS)
def test_a_tier_that_is_dropped_with_its_loop_warns_of_nothing(kind: str, open_database: Open) -> None:
    """A blocking connection of its own would warn, as any that nobody closes; there is none."""
    database = open_database(kind)

    async def use() -> None:
        tier = SQLTier(database.url, table=database.table, deadline=DEADLINE)
        await tier.amset(entries({"k": b"v"}))

    asyncio.run(use())
    gc.collect()
    assert database.rows() == 1


def test_aclose_ends_the_connections_of_its_loop(open_database: Open) -> None:
    database = open_database("postgresql")

    async def use() -> None:
        url = f"{database.url}&application_name={database.table}"
        tier = SQLTier(url, table=database.table, deadline=DEADLINE)
        await asyncio.gather(*(tier.amset(entries({f"k{n}": b"v"})) for n in range(4)))
        await tier.aclose()
        await tier.aclose()
        await asyncio.to_thread(_wait_for_backends, database, at_most=0)

    asyncio.run(use())


def test_a_cancelled_call_drops_its_connection(open_database: Open) -> None:
    """Its reply is still under way: whoever got the connection next would read it as their own."""
    database = open_database("postgresql", awaited=True)
    tier = database.tier(url=f"{database.url}&application_name={database.table}")

    async def scenario(holder: psycopg.AsyncConnection) -> None:
        await tier.amset(entries({"k": b"old", "other": b"o"}))
        before = _wait_for_backends(database, at_most=1)
        await holder.execute(f"LOCK TABLE {database.table} IN ACCESS EXCLUSIVE MODE")
        call = asyncio.create_task(tier.amget(["k"]))
        watcher = await psycopg.AsyncConnection.connect(database.url.replace("+psycopg", ""), autocommit=True)
        async with watcher:
            while True:
                cursor = await watcher.execute(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass",
                    (database.table,),
                )
                if (await cursor.fetchone()) == (1,):
                    break
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await holder.rollback()
        found = await asyncio.gather(*(tier.amget(["other"]) for _ in range(5)))
        assert [{key: entry.value for key, entry in each.items()} for each in found] == [{"other": b"o"}] * 5
        assert not before & _wait_for_backends(database, at_most=5)

    async def main() -> None:
        async with await psycopg.AsyncConnection.connect(database.url.replace("+psycopg", "")) as holder:
            await scenario(holder)
        await tier.aclose()

    asyncio.run(main())


# -- lost connections and locks --------------------------------------------------------------------


@pytest.mark.parametrize("awaited", [False, True])
def test_lost_connections_are_replaced(awaited: bool, open_database: Open) -> None:
    """All that are in the pool, as after a restart of the server."""
    database = open_database("postgresql", awaited=awaited)
    tier = database.tier(url=f"{database.url}&application_name={database.table}")
    database.put(tier, {"k": b"v"})
    connections = tier.store._connections
    held = []
    for _ in range(0 if awaited else 4):  # calls at the same time, so that several come back
        held.append(connections.lend())
        assert database.get(tier, ["k"]) == {"k": b"v"}
    for connection in held:
        connections.take_back(connection)
    killed = database.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '{t}'"
    )
    assert killed == [(True,)] * (1 if awaited else 5)
    assert database.get(tier, ["k"]) == {"k": b"v"}
    database.put(tier, {"k": b"w"})
    assert database.get(tier, ["k"]) == {"k": b"w"}


def test_a_server_that_is_down_is_an_error_until_it_is_up(database: Database, tmp_path: Path) -> None:
    if database.kind == "sqlite":
        file = tmp_path / "broken.db"
        file.write_bytes(b"this is no database" * 100)
        tier = database.tier(url=f"sqlite:///{file}")
        repair = file.unlink
    elif database.kind == "postgresql":
        name = f"later{database.awaited}".lower()
        tier = database.tier(url=database.url.replace("/postgres?", f"/{name}?"))

        def repair() -> None:
            with psycopg.connect(database.url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")
    else:
        pytest.skip("on MySQL the test's user may not make databases")
    for _ in range(2):
        with pytest.raises(TierUnavailable) as caught:
            database.get(tier, ["k"])
    assert caught.value.tier == "sql"
    repair()
    database.put(tier, {"k": b"v"})
    assert database.get(tier, ["k"]) == {"k": b"v"}


def test_nobody_there(tmp_path: Path) -> None:
    tier = SQLTier(f"postgresql://user:hunter2@/db?host={tmp_path}", deadline=5)
    with pytest.raises(TierUnavailable) as caught:
        tier.mget(["k"])
    with pytest.raises(TierUnavailable) as awaited:
        asyncio.run(tier.amget(["k"]))
    for error in (caught.value, awaited.value):
        assert "hunter2" not in "".join(traceback.format_exception(error))
        assert "***" in str(error)
    tier.close()


def test_a_lock_that_is_held_is_a_timeout(database: Database) -> None:
    patient = database.tier()
    database.put(patient, {"k": b"old"})
    hasty = database.tier(deadline=1 if database.kind == "mysql" else 0.3)
    assert database.get(hasty, ["k"]) == {"k": b"old"}
    with database.locked():
        with pytest.raises(TierTimeout) as caught:
            database.put(hasty, {"k": b"new"})
        assert caught.value.tier == "sql"
    database.put(hasty, {"k": b"new"})
    assert database.get(patient, ["k"]) == {"k": b"new"}


# -- processes -------------------------------------------------------------------------------------


def _write_same_keys(url: str, table: str, mine: int, gate: threading.Event) -> None:
    tier = SQLTier(url, table=table, deadline=DEADLINE)
    gate.wait(60)
    for turn in range(5):
        tier.mset(entries({f"k{n}": b"%d %d %d" % (mine, turn, n) for n in range(200)}))
    tier.close()


@pytest.mark.parametrize("kind", usually({"postgresql"}, DATABASES))
def test_processes_write_the_same_keys(kind: str, open_database: Open) -> None:
    """They also race to make the table. Every value is one that somebody wrote, whole."""
    database = open_database(kind)
    gate = spawn.Event()
    workers = [
        spawn.Process(target=_write_same_keys, args=(database.url, database.table, mine, gate))
        for mine in range(2)
    ]
    for worker in workers:
        worker.start()
    gate.set()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    found = database.get(database.tier(), [f"k{n}" for n in range(200)])
    assert len(found) == 200
    assert all(
        value in {b"%d 4 %s" % (mine, key[1:].encode()) for mine in range(2)} for key, value in found.items()
    )


@pytest.mark.parametrize("kind", DATABASES)
def test_a_forked_child_uses_connections_of_its_own(kind: str, open_database: Open) -> None:
    database = open_database(kind)
    tier = database.tier()
    database.put(tier, {"parent": b"v"})
    if kind == "postgresql":  # a child must not end these either

        async def fork_on_a_loop() -> None:
            await tier.amget(["parent"])
            _fork_and_write(tier, "loop")
            assert (await tier.amget(["loop"]))["loop"].value == b"v"

        asyncio.run(fork_on_a_loop())
    for n in range(3):
        _fork_and_write(tier, f"child {n}")
        found = database.get(tier, ["parent", f"child {n}"])
        assert found == {"parent": b"v", f"child {n}": b"v"}


def _fork_and_write(tier: SQLTier, key: str) -> None:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert tier.store._connections._idle == []  # none that the parent uses too
            assert not hasattr(tier.store, "_loops") or tier.store._loops._engines == {}
            tier.mset(entries({key: b"v"}))
            status = 0 if tier.mget(["parent"])["parent"].value == b"v" else 2
            tier.close()
        except BaseException:  # noqa: BLE001 - the child must not run the rest of the tests
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_a_child_that_forgets_a_tier_ends_no_connection_of_its_parent(open_database: Open) -> None:
    database = open_database("postgresql", awaited=False)
    tiers = [SQLTier(f"{database.url}&application_name={database.table}", table=database.table, deadline=30)]
    database.put(tiers[0], {"k": b"v"})
    pids = "SELECT pid FROM pg_stat_activity WHERE application_name = '{t}'"
    [before] = database.execute(pids)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tiers.clear()
            gc.collect()
            gc.collect()  # what hung on the first garbage
            status = 0
        finally:
            os._exit(status)
    assert exit_code(child) == 0
    database.put(tiers[0], {"k": b"v"})  # on the connection, if there is one
    assert database.execute(pids) == [before]
    tiers[0].close()
