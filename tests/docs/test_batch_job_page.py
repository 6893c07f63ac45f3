"""The program of the page on batch jobs keeps what was paid for, whatever ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import pythons
import shell
from doc_snippets import ROOT, blocks
from waiting import LIMIT, until

PAGE = ROOT / "docs" / "how-to" / "batch-job.md"
PROGRAM = blocks(PAGE, "python")[0].text
NAMES = {"__name__": "job"}
exec(PROGRAM, NAMES)  # noqa: S102 - the project's own documentation
BATCH, CHUNK = NAMES["BATCH"], NAMES["CHUNK"]


class Folder:
    """Where the page's program is, its texts and its bill."""

    def __init__(self, path: Path, texts: list[str]) -> None:
        self.path, self.texts = path, texts
        (path / "job.py").write_text(PROGRAM)
        (path / "texts.txt").write_text("".join(f"{text}\n" for text in texts))

    def start(self, share: int = 0, shares: int = 1) -> pythons.Popen:
        command = [sys.executable, str(self.path / "job.py"), "texts.txt", "vectors", str(share), str(shares)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }
        return pythons.Popen(
            command,
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def bill(self) -> list[str]:
        bill = self.path / "bill.txt"
        return bill.read_text().splitlines() if bill.exists() else []


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path, [f"text {number}" for number in range(20 * CHUNK)])


def ended(process: pythons.Popen) -> tuple[int, str, str]:
    """Its exit code, and what it wrote."""
    try:
        out, err = process.communicate(timeout=3 * LIMIT)  # a lease of one that was killed takes 15 s to end
    finally:
        process.kill()
    return process.returncode, out, err


def interrupt(process: pythons.Popen, number: int, after: Callable[[], bool]) -> tuple[int, str, str]:
    """End it by the signal, in the middle of its work."""
    until(after, "a part of the work")
    process.send_signal(number)
    return ended(process)


def test_what_was_paid_for_is_kept_whatever_signal_ends_it(folder):
    code, _, _ = interrupt(folder.start(), signal.SIGKILL, lambda: len(folder.bill()) > CHUNK)
    assert code == -signal.SIGKILL
    killed = len(folder.bill())
    assert killed < len(folder.texts)
    code, _, err = interrupt(folder.start(), signal.SIGINT, lambda: len(folder.bill()) > killed + CHUNK)
    assert (code, err.splitlines()[-1]) == (1, "interrupted; start it again, and it goes on")
    assert len(folder.bill()) < len(folder.texts)
    code, out, err = ended(folder.start())
    assert (code, out) == (0, f"{len(folder.texts)}\n"), err
    paid = Counter(folder.bill())
    assert set(paid) == set(folder.texts)
    twice = sum(count - 1 for count in paid.values())
    assert twice <= 2 * BATCH  # what was under way when it was interrupted, each time
    assert ended(folder.start())[:2] == (0, f"{len(folder.texts)}\n")
    assert len(folder.bill()) == len(folder.texts) + twice  # and then nothing


@pytest.mark.slow
def test_two_workers_share_the_work_and_one_is_killed(tmp_path):
    texts = [f"text {number}" for number in range(6 * CHUNK)]
    # Each chunk twice, so that both workers have the same one at the same time.
    starts = range(0, len(texts), CHUNK)
    folder = Folder(tmp_path, [text for start in starts for text in texts[start : start + CHUNK] * 2])
    victim, survivor = folder.start(0, 2), folder.start(1, 2)
    interrupt(victim, signal.SIGKILL, lambda: len(folder.bill()) > 2.5 * CHUNK)
    for process in survivor, folder.start(0, 2):
        code, out, err = ended(process)
        assert (code, out) == (0, f"{len(texts)}\n"), err
    paid = Counter(folder.bill())
    assert set(paid) == set(texts)
    assert sum(paid.values()) - len(texts) <= BATCH


def test_memory_stays_flat(tmp_path, monkeypatch):
    monkeypatch.setitem(NAMES, "embed", lambda texts: [[1.0] * 16 for _ in texts])

    def peak(count: int) -> int:
        tracemalloc.start()
        try:
            with NAMES["make_cache"](str(tmp_path / f"{count}")) as cache:
                source = (f"text {number}" for number in range(count))
                assert NAMES["job"](cache, NAMES["chunks"](source)) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(CHUNK)  # imports
    assert peak(10 * CHUNK) < 1.5 * peak(2 * CHUNK)


def test_what_there_is_already_goes_in(folder, monkeypatch):
    (configuration,) = blocks(PAGE, "toml")
    (line,) = blocks(PAGE, "json")
    monkeypatch.chdir(folder.path)
    Path("tiercache.toml").write_text(configuration.text)
    some = folder.texts[: 3 * CHUNK]
    lines = [json.dumps({"key": text, "value": [float(len(text)), 1.0]}) for text in some]
    assert json.loads(line.text) in map(json.loads, lines)
    Path("old.jsonl").write_text("\n".join(lines))
    done = shell.run("warm", "old.jsonl")
    assert done.code == 0, done.err
    assert ended(folder.start())[:2] == (0, f"{len(folder.texts)}\n")
    assert folder.bill() == folder.texts[3 * CHUNK :]
    counted = json.loads(shell.run("stats", "--json").out)["processes"]
    assert len(folder.texts) - 3 * CHUNK in [process["stats"]["loads"] for process in counted]
