"""The ledger of several processes says what the provider counted itself, whatever it answers, and also when
one of them is killed; and their budget is one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path

import pytest
from ledgers import PRICES
from paid_provider import ask, provider

from tiercache import BudgetExceeded, DiskTier, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec

COST = Decimal("0.0002")  # of a call
PROCESSES = 8
CALLS = int(os.environ.get("TIERCACHE_TEST_CALLS", "60"))  # of each


@contextmanager
def cache_over(directory, **options):
    tiers = [MemoryTier(), DiskTier(directory)]
    with TieredCache(tiers, codec=JSONCodec(), prices=PRICES, model="m", **options) as cache:
        yield cache


def start(directory, url, calls=CALLS, per_day=0.0, name=""):
    program = Path(__file__).parent.parent / "paid_provider.py"
    return subprocess.Popen(
        [sys.executable, program, str(directory), url, name, str(calls), str(per_day)], stdout=subprocess.PIPE
    )


def test_all_attempts_are_counted_whatever_is_answered(tmp_path):
    faults = [429, 500, "half", "nothing", 200]
    with provider() as server, cache_over(tmp_path / "d") as cache:
        server.faults = faults * 6
        answered = failed = 0
        for number in range(30):
            try:
                cache.get_or_load(f"{number}", lambda key: ask(server.url, key))
                answered += 1
            except (OSError, HTTPException, ValueError):
                failed += 1
        total = cache.ledger().total
        assert (answered, failed) == (6, 24)
        assert (total.calls, total.failed, total.texts) == (server.asked.total(), failed, answered)
        assert total.money_spent == answered * COST


def test_sums_are_the_providers_own(tmp_path):
    with provider() as server:
        workers = [start(tmp_path / "d", server.url, name=f"{number}") for number in range(PROCESSES)]
        for worker in workers:
            assert worker.communicate(timeout=300)[0] == b"a" * CALLS
        with cache_over(tmp_path / "d") as cache:
            total = cache.ledger().total
        assert total.calls == server.asked.total() == PROCESSES * CALLS
        assert (total.failed, total.texts, total.served) == (0, total.calls, total.calls)
        assert total.money_spent == total.calls * COST


def test_what_was_acknowledged_is_in_after_a_kill(tmp_path):
    with provider() as server:
        doomed = start(tmp_path / "d", server.url, calls=10**6, name="doomed")
        others = [start(tmp_path / "d", server.url, name=f"{number}") for number in range(PROCESSES - 1)]
        acknowledged = len(doomed.stdout.read(CALLS // 2))
        doomed.send_signal(signal.SIGKILL)
        acknowledged += len(doomed.communicate(timeout=60)[0])
        for worker in others:
            assert worker.communicate(timeout=300)[0] == b"a" * CALLS
        with cache_over(tmp_path / "d") as cache:
            total = cache.ledger().total
        known = acknowledged + (PROCESSES - 1) * CALLS
        # The call that was under way may be in, or have been answered to nobody.
        assert known <= total.calls <= known + 1
        assert total.calls <= server.asked.total() <= total.calls + 1
        assert total.money_spent == total.calls * COST


def test_a_budget_of_several_processes_is_one(tmp_path):
    allowed = 40
    with provider() as server:
        budget = float(allowed * COST)
        workers = [
            start(tmp_path / "d", server.url, calls=30, per_day=budget, name=f"{number}")
            for number in range(4)
        ]
        said = b"".join(worker.communicate(timeout=300)[0] for worker in workers)
        # One call of each of the others may be under way when the limit is reached.
        assert allowed <= server.asked.total() <= allowed + len(workers) - 1
        assert said.count(b"a") == server.asked.total()
        assert said.count(b"x") == 30 * len(workers) - said.count(b"a")
        with cache_over(tmp_path / "d", budget=budget) as cache:
            assert cache.ledger().total.money_spent == server.asked.total() * COST
            with pytest.raises(BudgetExceeded):
                cache.get_or_load("new", lambda key: ask(server.url, key))
            held = list(cache.keys())[:5]
            assert all(cache.mget(held))
            assert cache.get_or_load(held[0], lambda _key: 1 / 0)
