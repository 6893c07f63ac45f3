"""What the benchmarks share: a chain of three tiers, filled, and how a contest is held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contest import Contest, lines
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
        "--rounds", type=int, default=30, help="how often each contender of a contest has its turn"
    )


@pytest.fixture
def hold(
    benchmark: Any, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> Callable[[Contest], None]:
    """Holds a contest, prints its figures and leaves them in what ``--benchmark-json`` writes. The table of
    pytest-benchmark is of one turn of what was added first, and says nothing of the others."""

    def held(contest: Contest) -> None:
        figures = contest.run(request.config.getoption("--rounds") if benchmark.enabled else 1)
        benchmark.extra_info.update(figures)
        job, prepare = contest.first
        benchmark.pedantic(job, setup=prepare and (lambda: (prepare(), {})), rounds=1)
        with capsys.disabled():
            print("\n".join(("", *lines(figures))))

    return held
