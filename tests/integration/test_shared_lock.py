"""``lock="shared"``: of several real processes one loads a key, whatever becomes of it."""

from __future__ import annotations

import signal
from random import Random

import pytest
from lock_worker import Worker

from tiercache import DiskTier, RedisTier, SQLTier, TieredCache

PROCESSES = 8
KEYS = [f"key-{number}" for number in range(50)]


@pytest.fixture(
    params=[
        "disk",
        "valkey",
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("postgresql", "sqlite")),
    ]
)
def lowest(request, tmp_path):
    """The configuration of a tier that processes share."""
    if request.param == "disk":
        return {"type": "disk", "path": str(tmp_path / "cache"), "deadline": 30}
    if request.param == "valkey":
        url = request.getfixturevalue("valkey").url
        return {"type": "redis", "url": url, "prefix": f"{tmp_path.name}:", "deadline": 30}
    if request.param == "sqlite":
        return {"type": "sql", "url": f"sqlite:///{tmp_path}/cache.db", "deadline": 30}
    url = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+psycopg://")
    table = f"lock_{abs(hash(tmp_path.name)) % 10**9}"
    return {"type": "sql", "url": url, "table": table, "deadline": 30}


@pytest.fixture
def config(lowest):
    return {"lock": "shared", "tiers": [{"type": "memory"}, lowest]}


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    """Processes for all the tests; their log grows from test to test."""
    folder = tmp_path_factory.mktemp("crew")
    workers = [Worker(folder / "log") for _ in range(PROCESSES)]
    yield workers
    for worker in workers:
        worker.close()


@pytest.fixture
def victim(crew):
    """One more, for a test that kills it."""
    worker = Worker(crew[0].log)
    yield worker
    worker.close()


def tier_of(lowest):
    options = {name: value for name, value in lowest.items() if name not in ("type", "path", "url")}
    kind = {"disk": DiskTier, "redis": RedisTier, "sql": SQLTier}[lowest["type"]]
    return kind(lowest.get("path") or lowest["url"], **options)


def test_each_key_is_loaded_once_by_all_processes(crew, config):
    before = len(crew[0].loads())
    for number, worker in enumerate(crew):
        # Batches that overlap, asked for in different orders.
        order = Random(number).sample(KEYS, len(KEYS))
        way = "native" if number % 2 else "blocking"
        worker.tell(config=config, keys=order, batch_size=7, way=way, seconds=0.01)
    found = [dict(zip(sorted(KEYS), sorted(worker.hear(), key=_key), strict=True)) for worker in crew]
    assert all(one == found[0] for one in found)  # one process's value for each key, everywhere
    assert all(value.split()[1] == key for key, value in found[0].items())
    assert sorted(crew[0].loads()[before:]) == sorted(KEYS)


def _key(value):
    return value.split()[1]


def test_a_killed_holder_delays_the_others_by_no_more_than_its_lease(crew, victim, config):
    before, others = len(victim.loads()), crew[:2]
    victim.tell(config=config, keys=["a", "b"], hold=True, lease=0.5)
    assert victim.hear() == "loading"
    for worker in others:
        worker.tell(config=config, keys=["b", "a"])
    victim.process.send_signal(signal.SIGKILL)
    first, second = (dict(zip("ba", worker.hear(), strict=True)) for worker in others)
    assert first == second
    assert sorted(victim.loads()[before:]) == ["a", "a", "b", "b"]  # the dead one's, and one of the others'


def test_a_holder_that_stood_still_takes_nobodys_lease(crew, lowest, config):
    holder, other, *_ = crew
    # Renewed after a third of this: it is not stopped in the midst of that, which would lock the database.
    holder.tell(config=config, keys=["a"], hold=True, lease=3.0)
    assert holder.hear() == "loading"
    holder.process.send_signal(signal.SIGSTOP)
    other.tell(config=config, keys=["a"], hold=True, lease=300.0)
    assert other.hear() == "loading"  # the lease has run out, and the other has it
    holder.process.send_signal(signal.SIGCONT)
    holder.tell()  # its loader may return
    assert holder.hear() == [f"{holder.process.pid} a"]
    tier = tier_of(lowest)
    try:
        assert tier.acquire(["a"], "probe", 1.0) == []  # it released nothing, and renewed nothing
        other.tell()
        assert other.hear() == [f"{other.process.pid} a"]
        assert tier.acquire(["a"], "probe", 1.0) == ["a"]
    finally:
        tier.close()


def test_a_loader_that_raises_leaves_no_lease(lowest, config):
    def load(keys):
        raise RuntimeError("no")

    tier = tier_of(lowest)
    try:
        with TieredCache.from_config(config) as cache:
            with pytest.raises(RuntimeError, match="no"):
                cache.mget_or_load(["a", "b"], load)
            assert sorted(tier.acquire(["a", "b"], "probe", 60.0)) == ["a", "b"]
    finally:
        tier.close()
