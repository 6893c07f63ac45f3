"""A server misses a delete or an overwrite, and the process is killed: nobody serves the old value."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pythons
from faults.late_writes import arrived
from missing import forget, restart_process
from servers.valkey import Valkey, running
from waiting import until

from tiercache import DiskTier, MemoryTier, RedisTier, TieredCache
from tiercache.testing import FaultyProxy

OLD, NEW = b"old", b"new"
HASTY, PATIENT = 0.25, 30

#: A process that does what it is told, line by line, and says when that returned.
_WORKER = """
import sys
from tiercache import DiskTier, MemoryTier, RedisTier, TieredCache
folder, url, deadline = sys.argv[1:]
redis = RedisTier(url, deadline=float(deadline), name="server")
cache = TieredCache([MemoryTier(), DiskTier(folder, deadline=30), redis])
view = cache.view("cleared")
for line in sys.stdin:
    match line.split():
        case ["clear"]:
            done = view.clear()
        case ["set", key, value]:
            done = cache.set(key, value.encode()).failed
        case ["mset", key, value]:
            done = cache.mset({key: value.encode()}).failed
        case ["fill", key, value]:
            done = view.set(key, value.encode()).failed
        case ["delete" | "mdelete" as verb, key]:
            done = getattr(cache, verb)(key if verb == "delete" else [key]).failed
        case ["get", key]:
            done = cache.get(key)
        case ["get-view", key]:
            done = view.get(key)
    print(done, flush=True)
"""


class Worker:
    def __init__(self, folder: Path, url: str, deadline: float) -> None:
        command = [sys.executable, "-W", "error", "-c", _WORKER, folder, url, str(deadline)]
        pipe = subprocess.PIPE
        self.process = pythons.Popen(command, stdin=pipe, stdout=pipe, text=True)

    def __call__(self, *words: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(*words, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@contextmanager
def worker(folder: Path, url: str, deadline: float) -> Iterator[Worker]:
    """A worker, killed at the end with SIGKILL."""
    made = Worker(folder, url, deadline)
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def server() -> Iterator[Valkey]:
    with running() as one:
        yield one


def test_a_process_that_is_killed_leaves_behind_what_the_server_missed(
    server: Valkey, tmp_path: Path
) -> None:
    folder = tmp_path / "disk"
    ends = {
        "deleted": ("delete", "deleted"),
        "mdeleted": ("mdelete", "mdeleted"),
        "set": ("set", "set", "new"),
        "mset": ("mset", "mset", "new"),
    }
    with worker(folder, server.url, PATIENT) as first:
        for key in [*ends, "warm"]:
            assert first("set", key, "old") == "()"
        assert first("fill", "k", "old") == "()"
    with worker(folder, server.url, HASTY) as second:
        until(lambda: second("set", "ready", "yes") == "()", "a connection")  # which is open then
        os.kill(server.pid, signal.SIGSTOP)
        try:
            # Sent on an open connection: the server finds it in its socket when it goes on.
            assert second("set", "late", "old") == "('server',)"
            assert second("delete", "late") == "('server',)"
            for words in ends.values():
                assert second(*words) == "('server',)"
            assert second("clear") == "None"
        finally:
            second.kill()
            os.kill(server.pid, signal.SIGCONT)
    arrived(server, b"tiercache:late", OLD)
    evict(folder)
    with worker(folder, server.url, PATIENT) as third:
        assert third("get", "late") == "None"
        for key in ends:
            assert third("get", key) == "None", key
        assert third("get-view", "k") == "None"
        assert third("get", "warm") == str(OLD)
    with server.client() as client:
        assert client.get("tiercache:deleted") is None


def evict(folder: Path) -> None:
    """The disk tier loses its entries, as for want of room, and keeps its journal."""
    disk = DiskTier(folder)
    disk.clear("")
    disk.close()


@pytest.mark.parametrize("restart", [False, True])
def test_a_write_on_its_way_that_arrives_after_all_is_settled_stays_fenced_off(
    server: Valkey, tmp_path: Path, restart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:

        def chain() -> TieredCache[bytes]:
            redis = RedisTier(
                f"redis://127.0.0.1:{proxy.port}", deadline=HASTY, name="server", breaker_failures=None
            )
            return TieredCache(
                [MemoryTier(), DiskTier(tmp_path / "disk", deadline=30), redis], promote="inline"
            )

        cache = chain()
        until(lambda: cache.set("k", b"early").ok, "a connection")
        proxy.hold()
        assert cache.set("k", OLD).failed == ("server",)
        forget(cache, "k", but="server")
        assert cache.get("k") is None
        until(lambda: cache.delete("k").ok, "a new connection")
        assert cache.get("k") is None
        cache.flush()  # what was settled is noted behind the caller
        assert cache.stats().tiers[2].owed == 0
        proxy.let_go()
        arrived(server, b"tiercache:k", OLD)
        cache.flush()
        if restart:
            cache.close()
            restart_process(monkeypatch)
            cache = chain()
        assert cache.get("k") is None
        cache.close()
