"""A fork in the middle of a call of SQLite, whose locks and open files are variables of the process."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tiercache import Entry, SQLTier, TierUnavailable
from tiercache.sqlite_gate import GATE

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def code_of_a_child(work: Callable[[], bool]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads is the point
        pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = 0 if work() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_fork_waits_for_a_write_and_the_child_writes_on(tmp_path: Path) -> None:
    database = tmp_path / "cache.db"
    tier = SQLTier(f"sqlite:///{database}", deadline=30)
    tier.mset({"before": Entry(b"v")})
    with closing(sqlite3.connect(database, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        writer = threading.Thread(target=tier.mset, args=({"slow": Entry(b"v")},))
        writer.start()
        end = time.monotonic() + 30
        while not GATE._inside and time.monotonic() < end:  # until it is on its way to the lock
            time.sleep(0.001)
        let_go = threading.Timer(0.2, other.execute, args=("ROLLBACK",))
        let_go.start()

        def work() -> bool:
            if tier.mget(["before", "slow"]).keys() != {"before", "slow"}:
                return False  # the fork did not wait for it
            tier.mset({"child": Entry(b"v")})
            tier.mdelete(["before"])
            return True

        assert code_of_a_child(work) == 0
        writer.join()
        let_go.join()
    assert tier.mget(["before", "slow", "child"]).keys() == {"slow", "child"}
    tier.close()


def test_a_child_that_was_forked_in_the_middle_of_a_call_refuses_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tier = SQLTier(f"sqlite:///{tmp_path}/cache.db", deadline=30)
    tier.mset({"before": Entry(b"v")})
    monkeypatch.setattr("tiercache.sqlite_gate.DRAIN_SECONDS", 0.05)
    assert GATE.enter(1)  # a call that does not end in time
    try:

        def work() -> bool:
            with pytest.raises(TierUnavailable, match="forked in the middle of a call"):
                tier.mget(["before"])
            return True

        assert code_of_a_child(work) == 0
    finally:
        GATE.leave()
    assert tier.mget(["before"])  # the parent goes on
    tier.close()


def test_a_database_in_memory_outlives_a_fork() -> None:
    tier = SQLTier("sqlite://", deadline=30)
    tier.mset({"before": Entry(b"v")})
    assert code_of_a_child(lambda: True) == 0
    assert tier.mget(["before"])
    tier.close()
