"""The programs of the page on servers that fork, in a real gunicorn and in real pools."""

from __future__ import annotations

import ast
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest
import pythons
from doc_snippets import ROOT, blocks
from waiting import LIMIT, until

from tiercache import DiskTier, TieredCache

PAGE = ROOT / "docs" / "how-to" / "prefork.md"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the page's files are, by the names that their first lines say."""
    for block in blocks(PAGE, "python"):
        name = block.text.split("\n")[0].removeprefix("# ")
        if name.endswith(".py"):
            (tmp_path / name).write_text(block.text)
    return tmp_path


class Server:
    """Where it listens, and what its workers noted."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def get(self, name: str) -> dict[str, Any] | None:
        """An answer of one of the workers; None where that was on its way to one that is no more."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET", f"/{name}")
            response = connection.getresponse()
            assert response.status == 200
            return dict(json.load(response))
        except (OSError, HTTPException):
            return None
        finally:
            connection.close()

    def workers(self, name: str, without: int | None = None) -> set[int]:
        """The two workers, when each has given the price of ``name``, and the same one."""
        found: dict[int, str] = {}

        def both() -> bool:
            answer = self.get(name)
            if answer is not None and answer["worker"] != without:
                found[answer["worker"]] = answer["price"]
            return len(found) >= 2

        until(both, "an answer of each worker")
        assert set(found.values()) == {f"1.20 EUR for {name}"}
        return set(found)

    def asked(self) -> list[tuple[str, int]]:
        """Which prices were loaded, and by which process."""
        lines = (self.folder / "asked.txt").read_text().splitlines()
        return [(line.rpartition(" ")[0], int(line.rpartition(" ")[2])) for line in lines]


@contextmanager
def gunicorn(folder: Path, change: Callable[[str], str] = str) -> Iterator[tuple[Server, int]]:
    """It serves the page's application with the page's configuration, and ends well."""
    settings = folder / "gunicorn.conf.py"
    settings.write_text(change(settings.read_text()))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with socket.create_server(("127.0.0.1", 0)) as listening, (folder / "log").open("w") as log:
        bound = f"fd://{listening.fileno()}"
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", bound, "shop:application"],
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "PYTHONPATH": path},
            pass_fds=[listening.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            yield Server(folder, listening.getsockname()[1]), process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                code = process.wait(LIMIT)
            finally:
                process.kill()
    said = (folder / "log").read_text()
    assert code == 0, said
    assert "Traceback" not in said, said


@pytest.mark.parametrize("preload", [True, False])
def test_workers_of_gunicorn_load_once_and_one_that_is_killed_takes_nothing_with_it(folder, preload):
    def change(settings: str) -> str:
        assert "preload_app = True" in settings
        return settings.replace("preload_app = True", f"preload_app = {preload}")

    with gunicorn(folder, change) as (server, parent):
        workers = server.workers("tea")
        names, pids = zip(*server.asked(), strict=True)
        assert names == ("tea",)
        assert (pids[0] == parent) == preload  # before the fork, or in one of them
        assert server.workers("milk") == workers
        victim, survivor = workers
        os.kill(victim, signal.SIGKILL)
        newer = server.workers("milk", without=victim)
        assert survivor in newer
        assert server.workers("tea", without=victim) == newer
        assert [name for name, _ in server.asked()] == ["tea", "milk"]
        # The new one loads too.
        assert server.workers("coffee", without=victim) == newer
    assert [name for name, _ in server.asked()] == ["tea", "milk", "coffee"]


def test_inherited_memory_is_in_each_worker_without_the_disk(folder):
    """With the disk gone after the fork, what the parent had loaded is still given by memory."""
    program = (folder / "shop.py").read_text()
    assert 'price("tea")' in program
    alone = (
        program.replace(', DiskTier("./shop/")', "").replace('ttl="1m"', "").replace('    lock="shared"', "#")
    )
    (folder / "shop.py").write_text(alone)
    with gunicorn(folder) as (server, parent):
        server.workers("tea")
        assert server.asked() == [("tea", parent)]
        workers = server.workers("milk")
        assert sorted(server.asked()[1:]) == sorted(("milk", worker) for worker in workers)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_workers_of_a_pool_share_the_disk(folder, method):
    program = folder / "pool.py"
    text = program.read_text()
    assert 'method = "spawn"' in text
    program.write_text(text.replace('method = "spawn"', f'method = "{method}"'))
    done = pythons.run([sys.executable, str(program)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ast.literal_eval(done.stdout) == [b"tea", b"milk", b"tea"]
    with TieredCache([DiskTier(folder / "pool")]) as cache:
        assert cache.mget(["tea", "milk"]) == [b"tea", b"milk"]
