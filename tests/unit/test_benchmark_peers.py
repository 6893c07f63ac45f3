"""`benchmarks.peers`: each contest tells of everybody who could do its job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import test_loading, test_memory
from benchmarks.contest import Contest
from benchmarks.peers import missing, wanted
from tiercache import MemoryTier, TieredCache

FIGURES = Path(__file__).parents[2] / "docs" / "benchmarks" / "figures.json"


def test_somebody_has_said_who_takes_part_in_each_contest_of_the_report():
    cases = json.loads(FIGURES.read_text())["cases"]
    contests = [name for name, case in cases.items() if "rounds" in case]
    assert contests
    for name in contests:
        wanted(name)
    with pytest.raises(LookupError, match="'unheard-of'"):
        wanted("unheard-of")


def test_who_is_not_told_of_is_found():
    told = ["tiercache", "redis-py", "LangChain RedisStore", "dogpile.cache", "cashews", "aiocache"]
    assert missing("redis-mget-100", told) == ["LiteLLM DualCache", "py-key-value-aio", "kmcache"]
    assert missing("memory-alone-hits", []) == []


@pytest.fixture
def hold():
    """Looks at who is told of, and holds nothing."""
    held = []

    def hold(contest: Contest) -> None:
        assert missing(contest.name, contest.told) == []
        held.append(contest.name)

    yield hold
    assert held


@pytest.mark.parametrize(
    "test",
    [test_memory.test_aget, test_memory.test_mget, test_memory.test_threads, test_loading.test_decorator],
)
def test_the_contests_of_memory_tell_of_everybody(hold, test):
    """The others do as they are held: see benchmarks/conftest.py."""
    keys = ["some", "others"]
    with TieredCache([MemoryTier()]) as cache:
        cache.mset(dict.fromkeys(keys, b"value"))
        test(hold, cache, keys)
