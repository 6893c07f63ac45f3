"""Outages of servers, each a function that returns its figures: tests hold them to generous bounds, and a
command can print them as a table.

Everything is real: a server that is stopped or killed, a proxy that cuts connections. A scenario builds the
chain ``[MemoryTier(), the server's tier]``, reads keys that only the server has, and reads on after the
outage until the server's tier answers again.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter, sleep
from typing import Any, Self, TypeVar

import psycopg
from faults_table import seconds
from servers.postgres import running_postgres
from servers.valkey import Valkey, running, running_cluster, running_sentinel
from waiting import until

from tiercache import MemoryTier, RedisTier, SQLTier, TieredCache, TierTimeout
from tiercache.testing import BlackHole, Delay, FaultyProxy, HalfOpen, Pass, Refuse, Reset, Truncate
from tiercache.testing.proxy import Mode

T = TypeVar("T")

DEADLINE = 0.25
#: Nobody waits longer than this for a tier to come back.
PATIENCE = 60.0
KEYS = tuple(f"key {number}" for number in range(400))


def value_of(key: str) -> bytes:
    return f"the value of {key} ".encode() * 20


@dataclass(frozen=True, slots=True)
class Figures:
    """What an outage cost; times in seconds."""

    fault: str
    deadline: float
    first_read: float  # until the first read came back, without a value
    failures: int  # calls of the tier that failed, in the outage
    skipped: int  # keys that the open breaker left out
    skipped_read: float | None  # median of reads that it left out, if there were any
    upper_read: float  # median of a miss in a chain of the upper tiers alone
    heal: float  # from the end of the outage to the first value out of the tier
    wrong: int  # reads that returned something that was never stored under their key

    def __str__(self) -> str:
        left_out = "the breaker left no read out"
        if self.skipped_read is not None:
            left_out = f"with the breaker open {seconds(self.skipped_read)}"
        return (
            f"first read {seconds(self.first_read)} (deadline {seconds(self.deadline)}), "
            f"{left_out} (upper tiers alone {seconds(self.upper_read)}), "
            f"served again after {seconds(self.heal)}, {self.wrong} wrong"
        )


class Reader:
    """Reads a chain, blocking or awaited; awaited ones all on one event loop."""

    def __init__(self, cache: TieredCache[bytes], *, awaited: bool) -> None:
        self.cache = cache
        self.wrong = 0
        self._awaited = awaited
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._awaited:
            self._runner.run(self.cache.aclose())
        else:
            self.cache.close()
        self._runner.close()

    def read(self, *keys: str) -> tuple[float, int]:
        """Seconds, and how many of ``keys`` had a value."""
        if self._awaited:
            seconds, values = self._runner.run(self._aread(keys))
        else:
            began = perf_counter()
            values = self.cache.mget(keys)
            seconds = perf_counter() - began
        found = [(key, value) for key, value in zip(keys, values, strict=True) if value is not None]
        self.wrong += sum(value != value_of(key) for key, value in found)
        return seconds, len(found)

    def begin(self, key: str) -> int:
        """Read ``key`` until it is found, since a busy machine may need longer than the deadline to connect;
        how many failures there were."""
        seconds_until(lambda: self.read(key)[1] == 1)
        return self.failures

    def read_all(self) -> None:
        """Read every key until all values are there, for the same reason."""
        seconds_until(lambda: self.read(*KEYS)[1] == len(KEYS))

    async def _aread(self, keys: Sequence[str]) -> tuple[float, list[bytes | None]]:
        began = perf_counter()
        values = await self.cache.amget(keys)
        return perf_counter() - began, values

    @property
    def failures(self) -> int:
        stats = self.cache.stats().tiers[-1]
        return stats.errors + stats.timeouts

    @property
    def skipped(self) -> int:
        return self.cache.stats().tiers[-1].skipped


def upper_read(*, awaited: bool) -> float:
    """Seconds of a miss in a chain of the upper tiers alone: the median of some."""
    with Reader(TieredCache([MemoryTier()]), awaited=awaited) as reader:
        return median(reader.read(key)[0] for key in KEYS[:50])


def outage(
    fault: str,
    tier: Callable[[], Any],
    seed: Callable[[], None],
    broken: Callable[[], AbstractContextManager[object]],
    *,
    awaited: bool,
) -> Figures:
    """Figures of an outage that lasts: ``broken()`` begins and ends it. ``seed()`` stores every key of `KEYS`
    under its value."""
    seed()
    upper = upper_read(awaited=awaited)
    with Reader(TieredCache([MemoryTier(), tier()]), awaited=awaited) as reader:
        keys = iter(KEYS)
        before_it = reader.begin(next(keys))
        with broken():
            first, found = reader.read(*(next(keys) for _ in range(20)))
            assert found == 0, "the first read finds nothing"
            while not reader.skipped:  # until the breaker is open
                reader.read(next(keys))
            skipped_reads = []
            while len(skipped_reads) < 30:
                before = reader.skipped
                seconds, _ = reader.read(next(keys))
                if reader.skipped > before:  # else it was the probe
                    skipped_reads.append(seconds)
        failures, skipped = reader.failures - before_it, reader.skipped
        heal = seconds_until(lambda: reader.read(KEYS[-1])[1] == 1)
        reader.read_all()
        return Figures(
            fault, DEADLINE, first, failures, skipped, median(skipped_reads), upper, heal, reader.wrong
        )


def seconds_until(condition: Callable[[], bool]) -> float:
    began = perf_counter()
    while not condition():
        if perf_counter() - began > PATIENCE:
            raise AssertionError(f"it is not well after {PATIENCE:g} s")
        sleep(0.005)
    return perf_counter() - began


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Processes that do nothing, and take what is sent to them, until they go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


# -- Redis -----------------------------------------------------------------------------------------


def redis_tier(url: str, **options: Any) -> RedisTier:
    return RedisTier(url, **{"deadline": DEADLINE} | options)


def seed_redis(url: str) -> None:
    """Store every key, over a tier that has time."""
    with TieredCache([RedisTier(url, deadline=PATIENCE)]) as cache:
        assert cache.mset({key: value_of(key) for key in KEYS}).ok


def redis_stopped(*, awaited: bool = False, **options: Any) -> Figures:
    """A server that is stopped with SIGSTOP."""
    with running() as server:
        return outage(
            "Valkey stopped",
            lambda: redis_tier(server.url, **options),
            lambda: seed_redis(server.url),
            lambda: stopped(server.pid),
            awaited=awaited,
        )


#: What a proxy can do to connections; 100 bytes are in the middle of an answer.
PROXY_MODES: dict[str, Mode] = {
    "refused": Refuse(),
    "reset": Reset(),
    "reset in an answer": Reset(after=100),
    "truncated": Truncate(after=100),
    "half-open": HalfOpen(),
    "half-open in an answer": HalfOpen(after=100),
    "black hole": BlackHole(),
    "dripping": Delay(0.01, piece=1),
}


@contextmanager
def in_mode(proxy: FaultyProxy, mode: Mode) -> Iterator[None]:
    proxy.mode = mode
    try:
        yield
    finally:
        proxy.mode = Pass()


def redis_behind_proxy(name: str, server: Valkey, *, awaited: bool = False, **options: Any) -> Figures:
    """``server`` behind a proxy in one of `PROXY_MODES`."""
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        return outage(
            f"Valkey {name}",
            lambda: redis_tier(f"redis://127.0.0.1:{proxy.port}", **options),
            lambda: seed_redis(server.url),
            lambda: in_mode(proxy, PROXY_MODES[name]),
            awaited=awaited,
        )


def redis_sentinel_failover(
    *, awaited: bool = False, how: signal.Signals = signal.SIGKILL, **options: Any
) -> Figures:
    """The master that a Sentinel watches is killed, or stopped; its replica takes over.

    There is no end of the outage but the fail-over, so ``heal`` counts from its beginning, and ``first_read``
    is the longest of all reads in it.
    """
    settings = ("down-after-milliseconds 300", "failover-timeout 1000")
    with running_sentinel(*settings) as servers:

        def seed() -> None:
            seed_redis(servers.url)
            _await_copy(servers.master, servers.replica)

        return _lost(
            "Sentinel fail-over",
            lambda: redis_tier(servers.url, **options),
            seed,
            servers.master.pid,
            how,
            awaited=awaited,
        )


def redis_cluster_node_lost(
    *, awaited: bool = False, how: signal.Signals = signal.SIGKILL, **options: Any
) -> Figures:
    """A primary of a cluster is killed, or stopped; its replica takes over. As above."""
    with running_cluster("--cluster-node-timeout", "500", replicas=1) as cluster:

        def seed() -> None:
            seed_redis(cluster.url)
            _await_copy(cluster.nodes[0], cluster.nodes[3])

        return _lost(
            "cluster node lost",
            lambda: redis_tier(cluster.url, **options),
            seed,
            cluster.nodes[0].pid,
            how,
            awaited=awaited,
        )


def _await_copy(primary: Valkey, replica: Valkey) -> None:
    """What the replica never got is lost, whoever asks; so wait until it has every key."""
    with primary.client() as one, replica.client() as other:
        until(lambda: other.dbsize() == one.dbsize() > 0, "replicating")


def _lost(
    fault: str,
    tier: Callable[[], Any],
    seed: Callable[[], None],
    pid: int,
    how: signal.Signals,
    *,
    awaited: bool,
) -> Figures:
    seed()
    upper = upper_read(awaited=awaited)
    with Reader(TieredCache([MemoryTier(), tier()]), awaited=awaited) as reader:
        fresh = iter(KEYS[:200])
        before_it = reader.begin(next(fresh))
        os.kill(pid, how)
        began = perf_counter()
        first, found = reader.read(*KEYS[200:300])
        assert found == 0, "a batch for the lost node finds nothing"
        skipped_reads = []
        longest = first
        while reader.read(*KEYS[300:])[1] < 100:
            before = reader.skipped
            seconds, _ = reader.read("absent")
            longest = max(longest, seconds)
            if reader.skipped > before:
                skipped_reads.append(seconds)
            if perf_counter() - began > PATIENCE:
                raise AssertionError(f"it is not well after {PATIENCE:g} s")
            sleep(0.005)
        heal = perf_counter() - began
        failures, skipped = reader.failures - before_it, reader.skipped
        reader.read_all()
        left_out = median(skipped_reads) if skipped_reads else None
        return Figures(fault, DEADLINE, longest, failures, skipped, left_out, upper, heal, reader.wrong)


def patiently(call: Callable[[], T]) -> T:
    """The result of ``call``, made again where a busy machine was slower than its deadline."""
    end = perf_counter() + PATIENCE
    while True:
        try:
            return call()
        except TierTimeout:
            if perf_counter() > end:
                raise


# -- SQL -------------------------------------------------------------------------------------------

APPLICATION = "tiercache-faults"


def sql_tier(url: str, **options: Any) -> SQLTier:
    return SQLTier(
        f"{url}&application_name={APPLICATION}", **{"deadline": DEADLINE, "table": "faults"} | options
    )


def seed_sql(url: str) -> None:
    with TieredCache([SQLTier(url, deadline=PATIENCE, table="faults")]) as cache:
        assert cache.mset({key: value_of(key) for key in KEYS}).ok


def backends(url: str, *, everyone: bool = False) -> list[int]:
    """The pids of the server's processes for the tier under test, or for ``everyone`` but us."""
    which = "pid <> pg_backend_pid()" if everyone else "application_name = %s"
    with psycopg.connect(url, autocommit=True) as connection:
        query = f"SELECT pid FROM pg_stat_activity WHERE {which}"  # noqa: S608 - no foreign text
        return [pid for (pid,) in connection.execute(query, None if everyone else (APPLICATION,)).fetchall()]  # type: ignore[arg-type] # as above


def postgres_stopped(*, awaited: bool = False, **options: Any) -> Figures:
    """A whole server that is stopped: who begins connections, too."""
    with running_postgres() as url:
        folder = url.partition("?host=")[2]

        @contextmanager
        def broken() -> Iterator[None]:
            with open(f"{folder}/data/postmaster.pid") as file:  # noqa: PTH123 - a name, no path
                first = int(file.readline())
            with stopped(first, *backends(url, everyone=True)):
                yield

        return outage(
            "PostgreSQL stopped",
            lambda: sql_tier(url, **options),
            lambda: seed_sql(url),
            broken,
            awaited=awaited,
        )


@dataclass(frozen=True, slots=True)
class OneRead:
    """What a lost connection cost; times in seconds."""

    fault: str
    deadline: float
    first_read: float
    found: int  # values in the first read
    failures: int
    wrong: int

    def __str__(self) -> str:
        first = f"first read {seconds(self.first_read)}, which found {self.found} of 99 values"
        return f"{first}; {self.failures} errors of the tier, {self.wrong} wrong"


def postgres_backend(url: str, hurt: str, *, awaited: bool = False, **options: Any) -> OneRead:
    """The server's process for our connection is ``"stopped"`` or ``"terminated"``; others can be had."""
    seed_sql(url)
    with Reader(TieredCache([MemoryTier(), sql_tier(url, **options)]), awaited=awaited) as reader:
        before_it = reader.begin(KEYS[0])
        pids = backends(url)
        assert pids
        if hurt == "terminated":
            for pid in pids:
                os.kill(pid, signal.SIGTERM)
            until(lambda: not backends(url), "ending a backend")
            first, found = reader.read(*KEYS[1:100])
            failures = reader.failures - before_it
            reader.read_all()
        else:
            with stopped(*pids):
                first, found = reader.read(*KEYS[1:100])
                failures = reader.failures - before_it
                reader.read_all()  # on another connection: that one was dropped
        return OneRead(f"PostgreSQL backend {hurt}", DEADLINE, first, found, failures, reader.wrong)
