"""A cache may forget; it must never lie: also while tiers die and come back, a second process uses and
damages what both share, bytes are flipped, and clocks are set.

Random programs of two real processes over one disk tier and one server run against what the cache promises
(`fault_model`, `promises`); and some that were written by hand, each of which a cache without one of its
promises fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_model import HOURS, A, B, FaultModel
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from second_process import SecondProcess
from servers.valkey import Valkey, running
from two_processes import KEYS

from tiercache.testing import Refuse


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with running() as one:
        yield one


@pytest.fixture(scope="module")
def second() -> Iterator[SecondProcess]:
    made = SecondProcess()
    yield made
    made.close()


def begun(machine: FaultModel, kinds: list[str], **options: Any) -> FaultModel:
    machine.begin(**{"kinds": kinds, "promote": "background", "max_entries": None, "damages": True} | options)
    return machine


def store(machine: FaultModel, who: str, life: float | None = None, looks: str = "") -> None:
    machine.store(who=who, view=0, keys=["a"], life=life, way=False, looks=looks)


def delete(machine: FaultModel, who: str, looks: str = "") -> None:
    machine.overwrite(who=who, verb="mdelete", view=0, keys=["a"], way=False, looks=looks)


def a_promotion_comes_after_the_delete_of_another_process(machine: FaultModel) -> None:
    """From the server, into the disk tier, where it had to make room."""
    begun(machine, ["disk", "redis"], max_entries=2)
    store(machine, A)
    machine.store(who=A, view=1, keys=KEYS, life=None, way=False, looks="")
    machine.promotions_wait_or_go_on()
    machine.look(A, 0)
    delete(machine, B)
    machine.promotions_wait_or_go_on()
    machine.look(A + B, 0)


def a_load_ends_after_the_delete_of_another_process(machine: FaultModel) -> None:
    begun(machine, ["disk", "sql"])
    machine.load(who=A, view=0, keys=["a"], life=None, way=False, single=True, other="mdelete", key="a")
    machine.look(A + B, 0)


def the_server_misses_a_delete(machine: FaultModel) -> None:
    begun(machine, ["disk", "redis"])
    store(machine, A)
    machine.a_tier_dies(what="server", mode=Refuse())
    delete(machine, A)
    machine.second.kill()
    machine.second_begins()
    machine.a_tier_is_back(what="server", wait=True)
    machine.look(B + A, 0)


def a_write_is_late_and_deleted_before_it_arrives(machine: FaultModel) -> None:
    begun(machine, ["memory", "disk", "redis"])
    store(machine, A)
    machine.a_write_is_late(who=A, view=0, keys=["a"], verb="mset")
    machine.time_passes(seconds=2.0, view=0, looks="")
    delete(machine, A)
    machine.late_writes_arrive()
    machine.look(A + B, 0)


def an_entry_is_damaged(machine: FaultModel) -> None:
    begun(machine, ["disk", "sql"])
    for seed in range(8):
        store(machine, A)
        machine.the_disk_is_damaged(what="rows", count=1, seed=seed, view=0, looks=A + B)


def the_database_is_lost_with_what_it_had_noted(machine: FaultModel) -> None:
    begun(machine, ["disk", "redis"])
    store(machine, A)
    machine.a_tier_dies(what="server", mode=Refuse())
    delete(machine, A)
    machine.the_disk_is_damaged(what="header", count=1, seed=0, view=0, looks=B)
    machine.a_tier_is_back(what="server", wait=True)
    machine.look(B, 0)
    machine.reopen(anew=True)
    machine.look(A, 0)


def a_life_is_over(machine: FaultModel) -> None:
    begun(machine, ["memory", "disk", "sql"])
    store(machine, A, 60, looks=B)
    machine.time_passes(seconds=62.0, view=0, looks=A + B)


def the_clock_was_back_for_a_while(machine: FaultModel) -> None:
    """What rose into memory meanwhile seemed to have hours to live."""
    begun(machine, ["memory", "disk", "sql"])
    store(machine, A, 60)
    machine.the_clock_is_wrong_for_a_while(offset=-HOURS, seconds=62.0, view=0, looks=B)


def a_tier_misses_a_clear_after_the_clock_went_back(machine: FaultModel) -> None:
    """What it holds seems to be written after the clear."""
    begun(machine, ["disk", "sql"])
    store(machine, A)
    machine.the_clock_is_set(offset=-HOURS)
    machine.a_tier_dies(what="lock", mode=Refuse())
    machine.overwrite(who=A, verb="clear", view=0, keys=["a"], way=False, looks=A)


def the_second_dies_on_its_way_through_the_tiers(machine: FaultModel) -> None:
    begun(machine, ["memory", "disk", "redis"])
    for dies_at in range(3):
        store(machine, A)
        for verb in ("mset", "mdelete"):
            machine.the_second_is_killed(view=0, keys=["a"], verb=verb, dies_at=dies_at)
            machine.look(A + B, 0)


def nobody_can_write_to_the_disk(machine: FaultModel) -> None:
    begun(machine, ["memory", "disk", "redis"])
    store(machine, A, looks=B)
    for what in ("rights", "lock"):
        machine.a_tier_dies(what=what, mode=Refuse())
        store(machine, B, looks=A + B)
        delete(machine, A, looks=A + B)
        delete(machine, B, looks=A + B)
        machine.a_tier_is_back(what="disk", wait=True)
        machine.look(A + B, 0)
    machine.all_is_well_again()
    store(machine, A, looks=A + B)
    assert machine.found["certain"]


PROGRAMS = [
    a_promotion_comes_after_the_delete_of_another_process,
    a_load_ends_after_the_delete_of_another_process,
    the_server_misses_a_delete,
    a_write_is_late_and_deleted_before_it_arrives,
    an_entry_is_damaged,
    the_database_is_lost_with_what_it_had_noted,
    a_life_is_over,
    the_clock_was_back_for_a_while,
    a_tier_misses_a_clear_after_the_clock_went_back,
    the_second_dies_on_its_way_through_the_tiers,
    nobody_can_write_to_the_disk,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_program_that_a_cache_without_its_promises_fails(
    server: Valkey, second: SecondProcess, program: Callable[[FaultModel], None]
) -> None:
    machine = FaultModel(server, second, Counter())
    try:
        program(machine)
        machine.all_is_well_again()
    finally:
        machine.put_away()


OPTIONS: dict[str, Any] = {"deadline": None, "suppress_health_check": list(HealthCheck), "print_blob": True}


def check(server: Valkey, second: SecondProcess, **options: Any) -> Counter[str]:
    """What was found, and how often, in random programs."""
    found: Counter[str] = Counter()
    run_state_machine_as_test(
        lambda: FaultModel(server, second, found), settings=settings(**OPTIONS, **options)
    )
    return found


def test_a_cache_never_lies(server: Valkey, second: SecondProcess) -> None:
    found = check(server, second, max_examples=8, stateful_step_count=25, derandomize=True)
    assert found["values"] > 20


@pytest.mark.long
def test_a_cache_never_lies_in_many_programs(server: Valkey, second: SecondProcess) -> None:
    found = check(server, second, max_examples=400, stateful_step_count=50)
    assert found["values"] > 4_000
    assert found["certain"] > 1_000
