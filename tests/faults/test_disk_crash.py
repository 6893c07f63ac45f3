"""Writers that are killed with SIGKILL: what they were told is stored is there, and nothing is half there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import pythons
from faults_table import Told

#: Forks the writers, kills them, and looks at what they left: in a process without threads, so that a writer
#: is there within a millisecond.
ROUNDS = """
import json, os, random, select, signal, sys, time
from pathlib import Path
from tiercache import DiskTier, Entry

directory, rounds, writers, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
SIZE = 20
source = random.Random(seed)

def value(key):
    return (key.encode() + b".") * (2000 // (len(key) + 1))

def keys(round_, writer, batch):
    return [f"{round_} {writer} {batch} {number}" for number in range(SIZE)]

def write_for_ever(round_, writer, pipe):
    tier = DiskTier(directory, deadline=60)
    batch = 0
    while True:
        names = keys(round_, writer, batch)
        tier.mset({name: Entry(value(name)) for name in names})
        tier.mdelete(names[:2])
        os.write(pipe, b"%d\\n" % batch)
        batch += 1

def start(round_, writer):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            write_for_ever(round_, writer, writing)
        finally:
            os._exit(1)
    os.close(writing)
    return pid, reading

def drain(pipe):
    told = b""
    while part := os.read(pipe, 2**16):
        told += part
    os.close(pipe)
    return told

figures = {"rounds": 0, "acknowledged": 0, "lost": 0, "torn": 0, "undeleted": 0, "corrupt": 0}
for round_ in range(rounds):
    started = [start(round_, writer) for writer in range(writers)]
    for _, pipe in started:
        select.select([pipe], [], [], 60)  # the first batch of each is acknowledged
    time.sleep(source.random() * 0.008)  # then anywhere in a later one
    for pid, _ in started:
        os.kill(pid, signal.SIGKILL)
    for pid, _ in started:
        os.waitpid(pid, 0)
    tier = DiskTier(directory, deadline=60)
    for writer, (_, pipe) in enumerate(started):
        acknowledged = drain(pipe).count(b"\\n")
        for batch in range(acknowledged + 1):
            names = keys(round_, writer, batch)
            found = tier.mget(names)
            whole = {name for name, entry in found.items() if entry.value == value(name)}
            figures["torn"] += len(found) - len(whole)
            if batch < acknowledged:
                figures["acknowledged"] += SIZE - 2
                figures["lost"] += sum(name not in whole for name in names[2:])
                figures["undeleted"] += sum(name in found for name in names[:2])
            elif len(found) not in (0, SIZE - 2, SIZE):
                figures["torn"] += 1
    figures["corrupt"] += tier.counters()["corrupt"]
    tier.clear("")
    tier.close()
    figures["rounds"] += 1
print(json.dumps(figures))
"""


def kill_writers(directory: Path, *, rounds: int, writers: int, seed: int = 1) -> dict[str, int]:
    """Figures of so many rounds: how many entries were acknowledged, and how many of them were not there
    afterwards; and of all, how many were torn."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        ROUNDS,
        str(directory),
        *map(str, (rounds, writers, seed)),
    ]
    done = pythons.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    figures: dict[str, int] = json.loads(done.stdout)
    return figures


def check(figures: dict[str, int], rounds: int, writers: int, told: Told) -> None:
    told(
        f"`kill -9` of {writers} writing",
        f"{rounds} rounds: {figures['lost']} of {figures['acknowledged']:,} acknowledged entries lost, "
        f"{figures['torn']} torn",
    )
    assert figures["rounds"] == rounds
    assert figures["acknowledged"] >= rounds * writers * 18
    bad = {name: figures[name] for name in ("lost", "torn", "undeleted", "corrupt")}
    assert bad == dict.fromkeys(bad, 0)


@pytest.mark.parametrize(("writers", "rounds"), [(1, 15), (4, 15)])
def test_writers_are_killed(tmp_path: Path, writers: int, rounds: int, told: Told) -> None:
    check(kill_writers(tmp_path / "d", rounds=rounds, writers=writers), rounds, writers, told)


@pytest.mark.long
@pytest.mark.parametrize("writers", [1, 4])
def test_writers_are_killed_300_times(tmp_path: Path, writers: int, told: Told) -> None:
    check(kill_writers(tmp_path / "d", rounds=300, writers=writers, seed=2), 300, writers, told)
