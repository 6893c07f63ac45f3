"""The ledger of several processes says what the provider counted itself, whatever it answers, and also when
one of them is killed; and their budget is one."""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from subprocess import PIPE

import pytest
import pythons
from ledger_places import PLACES
from ledgers import PRICES
from paid_provider import ask, provider
from selections import usually

from tiercache import BudgetExceeded, DiskTier, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec

COST = Decimal("0.0002")  # of a call
PROCESSES = 8
#: Where processes are killed in each run.
USUAL = {"disk", "postgres", "mysql", "valkey"}
CALLS = int(os.environ.get("TIERCACHE_TEST_CALLS", "40"))  # of each
FAULTS = [429, 500, "half", "nothing"]


@contextmanager
def cache_over(tier, **options):
    with TieredCache([MemoryTier(), tier], codec=JSONCodec(), prices=PRICES, model="m", **options) as cache:
        yield cache


def start(place, url, name, calls=CALLS, *, per_day=0.0, how="plain", action="block", threads=1):
    program = Path(__file__).parent.parent / "paid_provider.py"
    told = {
        "address": place.address,
        "url": url,
        "name": f"{name}",
        "calls": calls,
        "per_day": per_day,
        "how": how,
        "action": action,
        "threads": threads,
    }
    return pythons.Popen([sys.executable, program, json.dumps(told)], stdout=PIPE)


def test_all_attempts_are_counted_whatever_is_answered(tmp_path):
    faults = [*FAULTS, 200]
    with provider() as server, cache_over(DiskTier(tmp_path / "d")) as cache:
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


@pytest.mark.parametrize(
    "ledger_place", usually({"disk", "postgres", "valkey", "mysql"}, PLACES), indirect=True
)
def test_sums_are_the_providers_own_also_after_a_kill(ledger_place):
    """Whatever it answers, in all processes; and what one had acknowledged is in when it was killed."""
    with provider() as server:
        server.faults = [fault for each in FAULTS * (CALLS // 8) for fault in [each, *[200] * 5]]
        doomed = start(ledger_place, server.url, "doomed", calls=10**6)
        others = [start(ledger_place, server.url, number) for number in range(PROCESSES - 1)]
        acknowledged = b""
        while len(acknowledged) < CALLS // 2:  # not through the buffer, which `communicate` passes by
            acknowledged += os.read(doomed.stdout.fileno(), 1)
        doomed.send_signal(signal.SIGKILL)
        acknowledged += doomed.communicate(timeout=60)[0]
        said = b""
        for worker in others:
            said += worker.communicate(timeout=300)[0]
        assert len(said) == (PROCESSES - 1) * CALLS
        with cache_over(ledger_place.tier()) as cache:
            total = cache.ledger().total
        known = len(said) + len(acknowledged)
        answered = (said + acknowledged).count(b"a")
        # The call that was under way may be in, or have been answered to nobody.
        assert known <= total.calls <= known + 1
        assert answered <= total.texts <= answered + 1
        assert total.calls - total.failed == total.texts
        assert total.calls <= server.asked.total() <= total.calls + 1
        assert total.money_spent == total.texts * COST
        assert said.count(b"a") <= total.served <= answered  # the hits of its last seconds went with the one


WAYS = [("disk", "batches"), ("disk", "plain"), ("valkey", "concurrency"), ("postgres", "plain")]


@pytest.mark.parametrize(("ledger_place", "how"), WAYS, indirect=["ledger_place"])
def test_a_budget_of_several_processes_is_one(ledger_place, how):
    allowed, threads = 100, {"plain": 1, "concurrency": 4, "batches": 10}[how]
    with provider() as server:
        budget = float(allowed * COST)
        workers = [
            start(ledger_place, server.url, number, 50, per_day=budget, how=how, threads=threads)
            for number in range(PROCESSES)
        ]
        said = b"".join(worker.communicate(timeout=300)[0] for worker in workers)
        # What was under way in each when the limit was reached comes to it.
        asked = server.asked.total()
        assert allowed <= asked <= allowed + PROCESSES * threads - 1
        assert said.count(b"a") == asked
        assert said.count(b"x") == 50 * PROCESSES - asked
        assert said.count(b"w") == 3  # each share once, in all of them together
        with cache_over(ledger_place.tier(), budget=budget) as cache:
            assert cache.ledger().total.money_spent == asked * COST
            with pytest.raises(BudgetExceeded):
                cache.get_or_load("new", lambda key: ask(server.url, key))
            held = list(cache.keys())[:5]
            assert all(cache.mget(held))
            assert cache.get_or_load(held[0], lambda _key: 1 / 0)


@pytest.mark.parametrize("ledger_place", ["disk", "valkey", "postgres"], indirect=True)
def test_a_budget_that_warns_tells_once_in_all_processes(ledger_place):
    with provider() as server:
        workers = [
            start(ledger_place, server.url, number, 20, per_day=float(30 * COST), action="warn")
            for number in range(4)
        ]
        said = b"".join(worker.communicate(timeout=300)[0] for worker in workers)
    assert (said.count(b"a"), said.count(b"w"), said.count(b"x")) == (80, 3, 0)
