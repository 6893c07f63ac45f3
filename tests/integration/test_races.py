"""Writes against promotions, loads and refreshes of the same chain, in every order there is: the old value
never comes back. What is run against what is in `races`.
"""

from __future__ import annotations

import pytest
from interleavings import Pause, Scenario, Task, explore, explore_different
from races import ELSEWHERE, OLD, WRITES, Race, always_allowed, stale
from selections import usually

from tiercache._consistency.epochs import Epochs

pytestmark = pytest.mark.usefixtures("scheduled")


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("everywhere", usually({False}, [False, True]), ids=["low", "everywhere"])
def test_a_promotion_against_a_write_in_every_order(write: str, everywhere: bool) -> None:
    assert explore(lambda: Race("get", write, everywhere=everywhere)) > (20 if everywhere else 200)


@pytest.mark.parametrize("write", usually({"clear"}, WRITES))
@pytest.mark.parametrize("promote", usually({"background"}, ["inline", "background"]))
def test_promotion_through_three_tiers_against_a_write(write: str, promote: str) -> None:
    assert explore(lambda: Race("get", write, tiers=3, promote=promote), interruptions=3) > 200


@pytest.mark.parametrize(("write", "interruptions"), [("set", 4), ("delete", 4), ("clear", 3)])
@pytest.mark.parametrize("held", usually({None}, [None, OLD]), ids=["absent", "held"])
def test_a_load_against_a_write(write: str, interruptions: int, held: bytes | None) -> None:
    assert explore(lambda: Race("load", write, held=held), interruptions=interruptions) > 150


@pytest.mark.long
@pytest.mark.parametrize("held", [None, OLD], ids=["absent", "held"])
def test_a_load_against_a_clear_that_interrupts_it_once_more(held: bytes | None) -> None:
    """Longer than `test_a_load_against_a_write`: a clear takes the most steps."""
    assert explore(lambda: Race("load", "clear", held=held), interruptions=4) > 1000


@pytest.mark.long
@pytest.mark.parametrize("write", usually({"set"}, WRITES))
def test_two_loads_and_a_write(write: str) -> None:
    assert explore(lambda: Race("load", write, "load", held=None), interruptions=2) > 300


@pytest.mark.long
@pytest.mark.parametrize("write", usually({"delete"}, WRITES))
def test_a_load_a_promotion_and_a_write(write: str) -> None:
    assert explore(lambda: Race("load", "get", write), interruptions=2) > 300


@pytest.mark.parametrize(
    ("first", "second"),
    usually({("set", "delete")}, [("set", "set_newer"), ("set", "delete"), ("delete", "clear")]),
)
def test_two_writes_and_a_promotion_leave_all_tiers_alike(first: str, second: str) -> None:
    def make() -> Race:
        race = Race("get", first, second)
        race.check = lambda: None  # type: ignore[method-assign]  # either write may have come last
        return race

    assert explore(make, interruptions=2) > 200


@pytest.mark.parametrize("write", usually({"delete"}, WRITES))
def test_a_refresh_against_a_write(write: str) -> None:
    started: list[Race] = []

    def make() -> Race:
        started.append(stale("refresh", write))
        return started[-1]

    assert explore(make, interruptions=3) > 150
    assert sum(race.refreshes for race in started) > 100


@pytest.mark.long
@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("other", ["refresh", "load", "get"])
def test_a_refresh_a_write_and_another_caller(write: str, other: str) -> None:
    assert explore(lambda: stale("refresh", write, other), interruptions=1) > 40


@pytest.mark.parametrize(("write", "writer"), ELSEWHERE)
def test_a_refresh_against_a_write_of_another_chain(write: str, writer: str) -> None:
    assert explore(lambda: stale("refresh", write, writer=writer), interruptions=2) > 40


@pytest.mark.parametrize("write", WRITES)
def test_without_tickets_a_refresh_brings_the_old_value_back(
    write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Epochs, "begin_fill", always_allowed)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: stale("refresh", write), interruptions=2)


# -- the explorer finds the bugs that the guards prevent -------------------------------------------


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("work", ["get", "load"])
def test_without_tickets_the_old_value_comes_back(
    work: str, write: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Epochs, "begin_fill", always_allowed)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: Race(work, write, held=None if work == "load" else OLD), interruptions=2)


def test_without_waiting_for_fills_the_old_value_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Epochs, "_others", lambda _self, _keys: [])
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(lambda: Race("get", "delete"), interruptions=2)


def test_the_explorer_counts_what_it_should() -> None:
    class TwoByTwo(Scenario):
        def __init__(self) -> None:
            self.tasks = [Task(self.pause()), Task(self.pause())]

        async def pause(self) -> None:
            await Pause()

    assert explore(TwoByTwo) == 6  # two segments each: 4! / (2! 2!)
    assert explore(TwoByTwo, interruptions=0) == 2


def test_the_explorer_of_different_schedules_counts_what_it_should() -> None:
    ends: list[str] = []

    class Two(Scenario):
        def __init__(self, touches: tuple[dict[str, bool], dict[str, bool]]) -> None:
            self.done = ""
            self.tasks = [
                Task(self.step(name, each), process=name, touches={})
                for name, each in zip("ab", touches, strict=True)
            ]

        async def step(self, name: str, touches: dict[str, bool]) -> None:
            for _ in range(2):
                await Pause(touches=touches)
                self.done += name

        def finish(self) -> None:
            ends.append(self.done)

    for touches, expected in [
        (({"x": True}, {"x": True}), 6),  # 4! / (2! 2!)
        (({"x": False}, {"x": True}), 6),
        (({"x": False}, {"x": False}), 1),
        (({"x": True}, {"y": True}), 1),
    ]:
        ends.clear()
        assert explore_different(lambda touches=touches: Two(touches)) == expected
        assert len(set(ends)) == len(ends) == expected
