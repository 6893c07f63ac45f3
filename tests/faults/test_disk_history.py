"""Many threads of many processes on one tier: every read returns a value that some write could have left."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from faults_table import Told
from histories import FOREVER, Operation, violations
from talking import go, wait_for

WORKER = """
import json, random, sys, threading
from time import monotonic
from tiercache import DiskTier, Entry, TierError

directory, me, threads, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
KEYS = [f"key {number}" for number in range(24)]
FOREVER = float("inf")
tier = DiskTier(directory, deadline=60)
tier.mget(KEYS)
print("ready", flush=True)
sys.stdin.readline()
end = monotonic() + seconds

def work(number, history):
    source = random.Random(f"{me} {number}")
    count = 0
    while monotonic() < end:
        keys = source.sample(KEYS, source.choice((1, 2, 5)))
        choice = source.random()
        values = dict.fromkeys(keys)
        start = monotonic()
        try:
            if choice < 0.5:
                found = tier.mget(keys)
                values.update((key, entry.value.decode().rstrip(".")) for key, entry in found.items())
            elif choice < 0.85:
                count += 1
                values = {key: f"{me} {number} {count} {key}" for key in keys}
                tier.mset({key: Entry(value.encode().ljust(900, b".")) for key, value in values.items()})
            else:
                tier.mdelete(keys)
        except TierError:
            if choice >= 0.5:
                history.extend(("write", key, value, start, FOREVER) for key, value in values.items())
            continue
        done = monotonic()
        kind = "read" if choice < 0.5 else "write"
        history.extend((kind, key, value, start, done) for key, value in values.items())

histories = [[] for _ in range(threads)]
workers = [threading.Thread(target=work, args=item) for item in enumerate(histories)]
for worker in workers:
    worker.start()
for worker in workers:
    worker.join()
tier.close()
json.dump(sum(histories, []), sys.stdout)
"""


def record(directory: Path, *, processes: int, threads: int, seconds: float) -> list[Operation]:
    """The history of so many processes at work. Their clock is the machine's: their times can be compared."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-W", "error", "-c", WORKER, str(directory)]
    workers = [
        pythons.Popen([*command, str(me), str(threads), str(seconds)], stdin=pipe, stdout=pipe, text=True)
        for me in range(processes)
    ]
    for worker in workers:
        wait_for(worker, "ready")
    for worker in workers:
        go(worker)
    told = [worker.communicate(timeout=seconds + 300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * processes
    return [Operation(*item) for text in told for item in json.loads(text)]


def check(history: list[Operation], told: Told, *, processes: int) -> None:
    wrong = violations(history)
    told(
        f"{processes} processes x 4 threads on one disk tier",
        f"{len(history):,} reads and writes of keys: {len(wrong)} that no order explains",
    )
    assert wrong == []
    seen = {op.value for op in history if op.kind == "read" and op.value is not None}
    assert {value.split()[0] for value in seen if value} == {str(me) for me in range(processes)}


def test_every_read_returns_what_some_write_could_have_left(tmp_path: Path, told: Told) -> None:
    check(record(tmp_path / "d", processes=4, threads=4, seconds=2), told, processes=4)


@pytest.mark.long
def test_eight_processes_for_a_minute(tmp_path: Path, told: Told) -> None:
    check(record(tmp_path / "d", processes=8, threads=4, seconds=60), told, processes=8)


def write(value: str | None, start: float, end: float) -> Operation:
    return Operation("write", "k", value, start, end)


def read(value: str | None, start: float, end: float) -> Operation:
    return Operation("read", "k", value, start, end)


@pytest.mark.parametrize(
    "history",
    [
        [read("a", 1, 2)],  # nobody wrote it
        [read("a", 1, 2), write("a", 3, 4)],  # nor had begun to
        [write("a", 1, 2), read(None, 3, 4)],  # lost
        [write("a", 1, 2), write("b", 3, 4), read("a", 5, 6)],  # overwritten
        [write("a", 1, 2), write(None, 3, 4), read("a", 5, 6)],  # deleted
        [
            write("a", 1, 2),
            write("b", 3, FOREVER),
            read("b", 5, 6),
            read("a", 7, 8),
        ],  # seen to be overwritten
        [write(None, 1, 2), write("a", 3, 9), read("a", 4, 5), read(None, 6, 7)],
    ],
)
def test_a_wrong_history_is_found_out(history: list[Operation]) -> None:
    assert violations(history) == [history[-1] if history[-1].kind == "read" else history[0]]


@pytest.mark.parametrize(
    "history",
    [
        [read(None, 0, 1), write("a", 1, 4), read("a", 2, 3), read(None, 1, 3)],
        [write("a", 1, 4), write("b", 2, 3), read("a", 5, 6)],  # at once: either may be the last
        [write("a", 1, 4), write("b", 2, 3), read("b", 5, 6)],
        [write("a", 1, 2), write(None, 3, FOREVER), read("a", 5, 6), read(None, 7, 8)],
        [write("a", 1, 2), write(None, 3, 4), write("b", 3, 4), read(None, 5, 6)],
    ],
)
def test_a_right_history_is_not_blamed(history: list[Operation]) -> None:
    assert violations(history) == []
