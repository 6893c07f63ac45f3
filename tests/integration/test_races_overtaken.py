"""A blocking write on the thread of an event loop overtakes what that loop is doing; what was overtaken, or
cancelled, cleans up after itself.
"""

from __future__ import annotations

from typing import Any

import pytest
from interleavings import explore
from races import OLD, ON_LOOP, Race, assert_at_rest
from selections import usually

from tiercache._chain.core import Core

pytestmark = pytest.mark.usefixtures("scheduled")


BLOCKING_WRITES = ["set_blocking@thread", "delete_blocking@thread", "clear_blocking@thread"]


@pytest.mark.parametrize("write", usually({BLOCKING_WRITES[0]}, BLOCKING_WRITES))
@pytest.mark.parametrize("work", ON_LOOP)
@pytest.mark.parametrize("tiers", usually({2}, [2, 3]))
def test_a_blocking_write_overtakes_what_its_loop_is_doing(work: str, write: str, tiers: int) -> None:
    def make() -> Race:
        return Race(work, write, "probe", "probe", tiers=tiers, memory=True)

    assert explore(make, interruptions=3) > 40


@pytest.mark.parametrize("write", usually({"delete_blocking@thread"}, BLOCKING_WRITES))
@pytest.mark.parametrize("work", ["set_old", "get", "load"])
@pytest.mark.parametrize("interruptions", usually({2}, [2, 3]))
def test_what_was_overtaken_cleans_up_even_when_cancelled(work: str, write: str, interruptions: int) -> None:
    def make() -> Race:
        return Race(f"{work}@cancelled", write, "probe", tiers=3, memory=True)

    assert explore(make, interruptions=interruptions) > 40


@pytest.mark.parametrize("write", usually({"set_blocking@thread"}, BLOCKING_WRITES))
@pytest.mark.parametrize("work", ON_LOOP)
def test_a_third_writer_waits_for_what_was_overtaken(work: str, write: str) -> None:
    def make() -> Race:
        race = Race(work, write, "set_newer", memory=True)
        race.check = lambda: None  # type: ignore[method-assign]  # any of them may have come last
        race.always = {OLD}
        return race

    assert explore(make, interruptions=3) > 40


@pytest.mark.parametrize("work", ["set_old", "load"])
def test_without_cleaning_up_the_overtaken_value_comes_back(
    work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(*_args: Any) -> None:
        pass

    monkeypatch.setattr(Core, "undo_superseded", nothing)
    with pytest.raises(AssertionError, match=r"came back|do not agree"):
        explore(
            lambda: Race(f"{work}@loop", "delete_blocking@thread", memory=True, held=None), interruptions=2
        )


@pytest.mark.parametrize("interruptions", usually({1}, [1, 2]))
def test_a_cancelled_write_leaves_nothing_open(interruptions: int) -> None:
    for work in ["set", "delete", "clear", "get", "load"]:

        class Cancelled(Race):
            def check(self) -> None:
                pass

            def finish(self) -> None:
                assert_at_rest(self.core)

        explore(
            lambda work=work: Cancelled(f"{work}@cancelled", "load", held=None), interruptions=interruptions
        )
