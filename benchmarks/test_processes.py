"""A store on disk in two processes at once, and in a new process whose file cache is cold."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contest import Contest
from benchmarks.worker import STORES

KINDS = tuple(kind for kind in STORES if kind != "LMDB" or importlib.util.find_spec("lmdb") is not None)


class Worker:
    """`benchmarks.worker` in a process."""

    def __init__(self, kind: str, folder: Path, *, cold: bool = False) -> None:
        command = [sys.executable, "-m", "benchmarks.worker", kind, str(folder), *["cold"][: int(cold)]]
        self._process = subprocess.Popen(  # noqa: S603 - our own program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.wait("ready")

    def tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def wait(self, word: str = "done") -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == word + "\n"

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a store of each kind, all with the same keys."""
    folder = tmp_path_factory.mktemp("stores")
    for kind in KINDS:
        # In a process of its own, so that nobody here has the files open.
        code = (
            "import os, sys; from pathlib import Path; from benchmarks.worker import *; "
            f"put, get = open_store({kind!r}, Path(sys.argv[1])); "
            "[put({f'key-{number}': os.urandom(LENGTH) for number in range(at, at + 1000)}) "
            "for at in range(0, KEYS, 1000)]"
        )
        subprocess.run([sys.executable, "-c", code, str(folder)], check=True)  # noqa: S603 - our own code
    return folder


@pytest.fixture
def workers(folder: Path) -> Iterator[Callable[[str], Worker]]:
    with ExitStack() as stack:

        def start(kind: str) -> Worker:
            worker = Worker(kind, folder)
            stack.callback(worker.close)
            return worker

        yield start


def new_contest(name: str, title: str, *, size: int) -> Contest:
    contest = Contest(name, title, size=size)
    for kind in STORES:
        if kind not in KINDS:
            contest.absent(kind, "not installed")
    return contest


def at_once(workers: list[Worker], lines: list[str]) -> None:
    for line in lines:
        for worker in workers:
            worker.tell(line)
        for worker in workers:
            worker.wait()


def test_two_processes_read(hold: Any, workers: Any) -> None:
    """Ten batches by each of two, beside twenty by one."""
    contest = new_contest(
        "processes-read", "2,000 keys by `mget` of 100 from a disk, two processes", size=2000
    )
    for kind in KINDS:
        two = [workers(kind), workers(kind)]
        contest.add(kind, lambda two=two: at_once(two, ["read 10"]))
        contest.add(f"{kind}, one process", lambda two=two: at_once(two[:1], ["read 20"]))
    hold(contest)


def test_two_processes_write(hold: Any, workers: Any) -> None:
    """Each tenth batch of each process is a write of new keys."""
    contest = new_contest(
        "processes-writes", "Two processes on a disk, a tenth of their batches writes", size=2000
    )
    for kind in KINDS:
        two = [workers(kind), workers(kind)]
        settle = partial(at_once, two, ["settle"])
        contest.add(kind, lambda two=two: at_once(two, ["read 9", "write 1"]), settle=settle)
    hold(contest)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs posix_fadvise")
def test_cold_file_cache(hold: Any, folder: Path) -> None:
    """The first 1,000 keys that a new process reads, what the kernel held of the files being dropped before,
    as far as that goes without privileges; and the same without dropping anything."""
    contest = new_contest(
        "processes-cold", "The first 1,000 reads of a new process, file cache cold", size=1000
    )

    def job(worker: Worker) -> None:
        at_once([worker], ["read 10"])

    started: list[Worker] = []

    def new(kind: str, *, cold: bool) -> Callable[[], tuple[Worker]]:
        def prepare() -> tuple[Worker]:
            while started:
                started.pop().close()
            started.append(Worker(kind, folder, cold=cold))
            return (started[0],)

        return prepare

    for kind in KINDS:
        if kind == "LangChain LocalFileStore":
            contest.absent(kind, "has 10,000 files: to have them forgotten takes too long for the rounds")
        else:
            contest.add(kind, job, prepare=new(kind, cold=True))
    contest.add("tiercache, warm", job, prepare=new("tiercache", cold=False))
    hold(contest)
    while started:
        started.pop().close()
