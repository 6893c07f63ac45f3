"""What the benchmarks share: a chain of three tiers, filled, and how a contest is held."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from benchmarks.contest import Contest, lines
from benchmarks.peers import missing
from benchmarks.report.machine import machine, versions
from tiercache import DiskTier, MemoryTier, SQLTier, TieredCache


@pytest.fixture(scope="session")
def keys() -> list[str]:
    """1,000 keys whose hashes are cached after the first round."""
    return [f"key-{number}" for number in range(1000)]


@pytest.fixture
def chain(tmp_path: Path, keys: list[str]) -> Iterator[TieredCache[bytes]]:
    """Memory over disk over SQLite, with a ttl, holding 1,000 values of 100 bytes in all three."""
    tiers = [
        MemoryTier(max_entries=100_000, max_bytes="256MiB"),
        DiskTier(tmp_path / "disk"),
        SQLTier(f"sqlite:///{tmp_path}/lowest.db"),
    ]
    with TieredCache(tiers, ttl="1h") as cache:
        cache.mset(dict.fromkeys(keys, b"x" * 100))
        yield cache


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--within",
        type=float,
        metavar="SECONDS",
        help="begin no further benchmark after so many; each file of the suite has its turns in the time",
    )
    parser.addoption(
        "--rounds", type=int, default=30, help="how often each contender of a contest has its turn"
    )
    parser.addoption(
        "--seconds",
        type=float,
        default=inf,
        help="that a contest's rounds take; three are held in any case, five where there is a bound",
    )
    parser.addoption(
        "--scale", choices=("small", "full"), default="small", help="full: up to ten million entries"
    )


@pytest.fixture
def hold(
    benchmark: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[Contest], None]:
    """Holds a contest, prints its figures and leaves them in what ``--benchmark-json`` writes. The table of
    pytest-benchmark is of one turn of what was added first, and says nothing of the others."""

    def held(contest: Contest) -> None:
        assert not missing(contest.name, contest.told)
        option = request.config.getoption
        figures = contest.run(option("--rounds") if benchmark.enabled else 1, option("--seconds"))
        benchmark.extra_info.update(figures)
        job, prepare = contest.first
        benchmark.pedantic(job, setup=prepare and (lambda: (prepare(), {})), rounds=1)
        with capsys.disabled():
            print("\n".join(("", *lines(figures))))

    return held


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where time is short, the first of each file, then the second of each, and so on."""
    if config.getoption("--within") is not None:
        turns: Counter[Path] = Counter()
        order = {}
        for item in items:
            order[item] = turns[item.path]
            turns[item.path] += 1
        items.sort(key=order.__getitem__)  # which leaves those of one turn as they were


_BEGUN = monotonic()


def pytest_runtest_setup(item: pytest.Item) -> None:
    within = item.config.getoption("--within")
    if within is not None and monotonic() - _BEGUN > within:
        pytest.skip(f"{within:g} seconds are over")


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """What the report says of the machine; ``--benchmark-json`` asks for it."""
    machine_info["told"] = {"machine": machine(), "versions": versions()}
