"""A full chain in programs of several processes: pools, prefork servers, forks under load, sudden ends.

Every child ends by itself, or the program (`process_programs`) says that it hangs. What one tier does at a
fork is told by the tests of that tier.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import pythons
from selections import usually

PROGRAMS = Path(__file__).parent.with_name("process_programs.py")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(params=["Valkey", "SQLite"])
def config(request, tmp_path):
    """The configuration of memory over a disk over what several machines could share."""
    if request.param == "Valkey":
        url = request.getfixturevalue("valkey").url
        lowest = {"type": "redis", "url": url, "prefix": f"{tmp_path.name}:", "deadline": 30}
    else:
        lowest = {"type": "sql", "url": f"sqlite:///{tmp_path}/lowest.db", "deadline": 30}
    disk = {"type": "disk", "path": str(tmp_path / "disk"), "deadline": 30}
    return {"tiers": [{"type": "memory"}, disk, lowest]}


def run(config, *program):
    """What a program says at its end."""
    command = [sys.executable, "-W", "error", str(PROGRAMS), *map(str, program)]
    done = pythons.run(
        command,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | {"PROGRAM_CONFIG": json.dumps(config)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("method", usually({"spawn"}, ["spawn", "fork", "forkserver"]))
@pytest.mark.parametrize("config", ["Valkey"], indirect=True)
def test_workers_of_a_pool_have_the_cache_of_their_module_and_the_one_they_are_given(config, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    assert run(config, "pools", method) >= 2


@pytest.mark.parametrize("config", ["Valkey"], indirect=True)
def test_a_prefork_server_whose_workers_are_killed_and_forked_again_goes_on(config):
    assert run(config, "prefork", 4) == [0, 0, 0, 0]


def test_children_forked_under_load_do_all_that_a_cache_does(config):
    assert run(config, "under_load", 4) == [0] * 4


@pytest.mark.long
def test_hundred_children_forked_under_load_do_all_that_a_cache_does(config):
    assert run(config, "under_load", 100) == [0] * 100


@pytest.mark.long
def test_a_prefork_server_loses_forty_workers(config):
    assert run(config, "prefork", 40) == [0, 0, 0, 0]


def test_a_child_forked_while_every_lock_is_held_does_all_that_a_cache_does(config):
    code, taken = run(config, "with_locks_held")
    assert code == 0
    assert len(taken) >= 20
    assert {"Flights._lock", "WorkQueue._changed", "SlotStore.lock", "_Keeper._changed"} <= set(taken)
    assert {"Sources._lock", "_Snapshots._lock", "LedgerReader._lock"} <= set(taken)


@pytest.mark.parametrize("config", ["SQLite"], indirect=True)
def test_a_child_waits_for_nothing_that_its_parents_threads_are_at(config):
    assert run(config, "in_the_middle") == 0


@pytest.mark.parametrize("config", ["Valkey"], indirect=True)
def test_a_parent_on_an_event_loop_forks_while_its_tasks_use_the_cache(config):
    assert run(config, "on_a_loop") == [0] * 3


@pytest.mark.parametrize("config", ["Valkey"], indirect=True)
def test_a_child_that_reads_memory_alone_opens_nothing(config):
    assert run(config, "memory_alone") == [0] * 10


@pytest.mark.parametrize("who", ["child", "parent"])
@pytest.mark.parametrize("config", ["Valkey"], indirect=True)
def test_a_process_that_leaves_with_promotions_queued_tears_nothing_and_holds_no_lock(config, who):
    assert run(config, "leave", who) == "checked"
