"""Power that fails: what ``durability="power"`` acknowledged is there, and otherwise nothing is ever wrong.

A loss of power leaves what the disk was given by then, and no more. Where this user may mount, that is shown
with a file system in a file: the file is copied while the writer is stopped, and mounted again. It holds what
was synchronised, while a plain copy would hold all that was written. Elsewhere the end of the log is cut off.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from faults_table import Told
from places import mounted, run

from tiercache import DiskTier

WRITER = """
import sys
from tiercache import DiskTier, Entry
tier = DiskTier(sys.argv[1], durability=sys.argv[2], deadline=60, max_bytes="16MiB")
tier.mset({"before": Entry(b"x")})
number = 0
while True:
    tier.mset({f"{number} {part}": Entry(f"{number} {part} ".encode() * 200) for part in range(5)})
    tier.mset({"same": Entry(b"%d" % number)})
    tier.mdelete([f"{number} 0"])
    print(number, flush=True)
    number += 1
"""


def value(number: int, part: int) -> bytes:
    return f"{number} {part} ".encode() * 200


class Writer:
    """A process that writes for ever; stopped, and gone on with, between two of its system calls."""

    def __init__(self, directory: Path, durability: str) -> None:
        command = [sys.executable, "-W", "error", "-c", WRITER, str(directory), durability]
        self._process = pythons.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_for(self, batches: int) -> None:
        assert self._process.stdout is not None
        for _ in range(batches):
            self._last = int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def end(self) -> int:
        """The number of the last batch that it was told is stored."""
        self._process.kill()
        with self._process:  # which waits for its end
            assert self._process.stdout is not None
            rest = self._process.stdout.read()  # communicate() would leave out what a line read ahead
        return int((rest.split() or [self._last])[-1])


def look_at(directory: Path, acknowledged: int) -> dict[str, int]:
    """After the loss: how much was acknowledged, and of that lost, or wrong, or deleted and there again."""
    figures = {"acknowledged": 0, "lost": 0, "wrong": 0, "undeleted": 0}
    tier = DiskTier(directory, deadline=60)
    for number in range(acknowledged + 3):
        found = tier.mget([f"{number} {part}" for part in range(5)])
        for part in range(5):
            entry = found.get(f"{number} {part}")
            if entry is not None:
                figures["wrong"] += entry.value != value(number, part)
                figures["undeleted"] += part == 0 and number <= acknowledged
            elif part and number <= acknowledged:
                figures["lost"] += 1
        figures["acknowledged"] += 4 * (number <= acknowledged)
    same = tier.mget(["same"]).get("same")
    figures["acknowledged"] += 1
    if same is None or int(same.value) < acknowledged:
        figures["lost"] += 1
    else:
        figures["wrong"] += int(same.value) > acknowledged + 1
    tier.mset(dict(tier.mget(["before"])))  # it can be written again
    tier.close()
    return figures


def lose_power_of_a_disk(tmp_path: Path, durability: str, batches: int) -> dict[str, int]:
    image, after = tmp_path / "disk.img", tmp_path / "after.img"
    with image.open("wb") as file:
        file.truncate(2**26)
    refused = run("mkfs.ext4", "-q", "-F", "-m", "0", image)
    if refused is not None:
        pytest.skip(f"no file system can be made here: {refused}")
    with mounted(tmp_path / "disk", "ext4", "loop", image) as place:
        writer = Writer(place / "d", durability)
        try:
            writer.wait_for(batches)
            writer.stop()
            shutil.copyfile(image, after)
        finally:
            acknowledged = writer.end()
    with mounted(tmp_path / "disk again", "ext4", "loop", after) as place:
        if not (place / "d" / "tiercache.json").exists():
            return {"acknowledged": 0, "lost": 0, "wrong": 0, "undeleted": 0}  # lost with all that was in it
        return look_at(place / "d", acknowledged)


def check(figures: dict[str, int], durability: str, told: Told) -> None:
    told(
        f'power lost, `durability="{durability}"`',
        f"{figures['lost']} of {figures['acknowledged']} acknowledged entries lost, {figures['wrong']} wrong",
    )
    assert figures["wrong"] == 0
    if durability == "power":
        assert figures["acknowledged"] > 0
        assert (figures["lost"], figures["undeleted"]) == (0, 0)


@pytest.mark.parametrize("durability", ["power", "process"])
def test_a_disk_loses_power(tmp_path: Path, durability: str, told: Told) -> None:
    check(lose_power_of_a_disk(tmp_path, durability, 12), durability, told)


@pytest.mark.long
@pytest.mark.parametrize("durability", ["power", "process"])
@pytest.mark.parametrize("batches", range(1, 60, 3))
def test_a_disk_loses_power_at_many_times(tmp_path: Path, durability: str, batches: int, told: Told) -> None:
    check(lose_power_of_a_disk(tmp_path, durability, batches), durability, told)


def test_the_end_of_the_log_is_lost(tmp_path: Path) -> None:
    """Any part of it, with rubbish where it ends: the entries before that are as they were."""
    source = random.Random(3)
    writer = Writer(tmp_path / "d", "process")
    writer.wait_for(15)
    writer.stop()
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    acknowledged = writer.end()
    whole = look_at(shutil.copytree(tmp_path / "copy", tmp_path / "whole"), acknowledged)
    assert (whole["lost"], whole["wrong"], whole["undeleted"]) == (0, 0, 0)  # as after a kill
    log = (tmp_path / "copy" / "cache.db-wal").read_bytes()
    assert len(log) > 2**17
    for round_ in range(12):
        place = shutil.copytree(tmp_path / "copy", tmp_path / f"round {round_}")
        cut = source.randrange(len(log))
        rubbish = source.randbytes(min(4096, len(log) - cut)) if round_ % 2 else b""
        (place / "cache.db-wal").write_bytes(log[:cut] + rubbish)
        (place / "cache.db-shm").unlink(missing_ok=True)  # in memory: no loss of power leaves it
        assert look_at(place, acknowledged)["wrong"] == 0
