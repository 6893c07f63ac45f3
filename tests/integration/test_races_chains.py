"""The same when the write goes through another chain over the same tiers, or over some of them."""

from __future__ import annotations

import pytest
from interleavings import explore
from races import ELSEWHERE, OLD, ON_LOOP, Race
from selections import usually

pytestmark = pytest.mark.usefixtures("scheduled")


@pytest.mark.parametrize(("write", "writer"), ELSEWHERE)
@pytest.mark.parametrize("promote", usually({"background"}, ["inline", "background"]))
def test_a_promotion_against_a_write_of_another_chain(write: str, writer: str, promote: str) -> None:
    def make() -> Race:
        return Race("get", write, tiers=3, writer=writer, promote=promote)

    assert explore(make, interruptions=2) > 50


@pytest.mark.parametrize(("write", "writer"), ELSEWHERE)
def test_a_load_against_a_write_of_another_chain(write: str, writer: str) -> None:
    def make() -> Race:
        return Race("load", write, tiers=3, held=None, writer=writer)

    assert explore(make, interruptions=2) > 40


@pytest.mark.parametrize("work", ON_LOOP)
@pytest.mark.parametrize("writer", ["tiers", "linked"])
def test_a_blocking_write_of_another_chain_overtakes_what_its_loop_is_doing(work: str, writer: str) -> None:
    def make() -> Race:
        return Race(work, "delete_blocking@thread", "probe", tiers=3, memory=True, writer=writer)

    assert explore(make, interruptions=2) > 40


def test_without_a_common_domain_the_old_value_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiercache._consistency.domains._location", lambda _tier: object())
    for work, held in [("get", OLD), ("load", None)]:
        with pytest.raises(AssertionError, match=r"came back|do not agree"):
            explore(lambda work=work, held=held: Race(work, "delete", writer="tiers", held=held))
