"""`benchmarks.contest`: how many rounds there are, what is timed, and what is told of it."""

from __future__ import annotations

import asyncio
from time import sleep

from benchmarks.contest import Contest, lines
from benchmarks.settled import settled
from tiercache import DiskTier, MemoryTier, TieredCache


def held(contest: Contest, **given):
    for name in ("tiercache", "other"):
        contest.add(name, lambda: 1.0)
    return contest.run(**given)


def test_what_has_a_bound_has_five_rounds_at_least():
    plain, judged = Contest("some", "Some"), Contest("some", "Some")
    judged.at_most(1)
    assert held(plain, rounds=30, seconds=0)["rounds"] == 3
    assert held(judged, rounds=30, seconds=0)["rounds"] == 5
    weighed, bound = Contest("some", "Some", unit="bytes"), Contest("some", "Some", unit="bytes")
    bound.at_most(1)
    assert held(weighed, rounds=30, seconds=0)["rounds"] == 1
    assert held(bound, rounds=30, seconds=0)["rounds"] == 1  # of which no spread is told
    assert held(Contest("some", "Some", unit="bytes"), rounds=30)["rounds"] == 3


def test_and_seven_where_they_take_less_than_twice_the_time(monkeypatch):
    times = [0.0]
    monkeypatch.setattr("benchmarks.contest.perf_counter", lambda: sum(times))
    contest = Contest("some", "Some")
    contest.add("tiercache", times.append, prepare=lambda: (0.02,))
    contest.at_most(1)
    assert contest.run(rounds=30, seconds=0.08)["rounds"] == 7


def test_of_one_round_there_is_no_spread():
    contest = Contest("some", "Some")
    contest.at_most(1)
    figures = held(contest, rounds=1)
    told = [*figures["seconds"].values(), *figures["ratios"].values(), figures["targets"][0]["reached"]]
    assert [set(each) for each in told] == [{"median"}] * 4
    text = "\n".join(lines(figures))
    assert "(1 round)" in text
    assert "half" not in text


def test_what_goes_on_behind_a_job_is_waited_for_in_its_turn_and_not_timed():
    order = []
    contest = Contest("some", "Some")
    for name in ("a", "b"):
        contest.add(
            name,
            order.append,
            prepare=lambda name=name: (name,),
            calls=2,
            settle=lambda name=name: order.append(f"{name} settled") or sleep(0.05),
        )
    figures = contest.run(rounds=1)
    assert [one + other for one, other in zip(order[::2], order[1::2], strict=True)] in (
        [f"{name}{name} settled" for name in turns] for turns in ("abaabb", "abbbaa")
    )
    assert all(spread["median"] < 0.04 for spread in figures["seconds"].values())


def test_what_is_awaited_is_timed_within_its_run():
    contest = Contest("some", "Some")
    loops = set()

    async def job(*given):
        loops.add(asyncio.get_running_loop())
        assert given in ((), (1,))

    with asyncio.Runner() as runner, asyncio.Runner() as other:
        contest.add("tiercache", job, runner=runner)
        contest.add("prepared", job, prepare=lambda: (1,), calls=3, runner=other)
        figures = contest.run(rounds=3)
        assert loops == {runner.get_loop(), other.get_loop()}
        first, prepare = contest.first
        assert prepare is None
        first()
    assert figures["seconds"]["tiercache"]["median"] < 20e-6  # a run takes some fifty


def test_a_disk_is_waited_for_until_its_log_is_home(tmp_path):
    disk = DiskTier(tmp_path / "disk", deadline="30s")
    with TieredCache([MemoryTier(), disk], ttl="1h") as cache:
        settle = settled(cache, *(MemoryTier(), disk))
        for number in range(3):
            cache.mset({f"{number}-{each}": bytes(6144) for each in range(1000)})
            settle()
            upkeep = disk.store._upkeep
            assert upkeep._thread is None or upkeep.due
            assert disk.store._log_size() <= 8 * disk.store._log_bytes
