"""Ctrl-C while SQLite works: the caller hears of it, and the tier is not taken for one that is too slow."""

from __future__ import annotations

import signal
import sqlite3
from time import monotonic

import pytest

from tiercache.tiers.disk._watchdog import Bounded

COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT max(i) FROM n"


@pytest.fixture
def connection():
    made = Bounded(":memory:")
    yield made
    made.close()


@pytest.fixture
def interrupted_soon():
    def interrupt(_number, _frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda: signal.setitimer(signal.ITIMER_REAL, 0.02)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_an_interrupt_is_raised_where_the_statement_was_called(connection, interrupted_soon):
    connection.bound(monotonic() + 60, 60)
    began = monotonic()
    connection.execute(COUNTING, (100_000,)).fetchall()
    each = (monotonic() - began) / 100_000
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it may be raised after the statement, as before its end
        interrupted_soon()
        connection.execute(COUNTING, (int(0.2 / each),)).fetchall()
        signal.pause()
    assert connection.execute(COUNTING, (10,)).fetchall() == [(10,)]


def test_a_statement_ends_when_its_time_is_over(connection):
    connection.bound(monotonic() + 0.05, 60)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        connection.execute(COUNTING, (10**9,)).fetchall()
    connection.bound(monotonic() + 60, 60)
    assert connection.execute(COUNTING, (10,)).fetchall() == [(10,)]
