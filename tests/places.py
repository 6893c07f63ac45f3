"""Places for tests of disks that fail: file systems that are mounted for one test, and patience with them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TypeVar

import pytest

from tiercache import DiskTier

__all__ = ["mounted", "run", "sooner_or_later", "unwritable"]

T = TypeVar("T")


def sooner_or_later(call: Callable[[], T], error: type[Exception]) -> T:
    """What ``call`` returns when it no longer raises ``error``, within half a minute."""
    end = monotonic() + 30
    while True:
        try:
            return call()
        except error:
            if monotonic() >= end:
                raise
            sleep(0.01)


def run(*command: object) -> str | None:
    """Run ``command``; what it said if it failed, else ``None``."""
    if shutil.which(str(command[0])) is None:
        return f"there is no {command[0]}"
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    return None if done.returncode == 0 else done.stderr.strip() or str(done.returncode)


@contextmanager
def mounted(place: Path, kind: str, options: str, source: object = "none") -> Iterator[Path]:
    """Have a file system at ``place``. The test is skipped, and says so, where this user may not mount."""
    place.mkdir(exist_ok=True)
    refused = (
        "only root may mount" if os.geteuid() else run("mount", "-t", kind, "-o", options, source, place)
    )
    if refused is not None:
        pytest.skip(f"nothing can be mounted here: {refused}")
    try:
        yield place
    finally:
        run("umount", "-l", place)


def unwritable(folder: Path) -> DiskTier:
    """A disk tier that can be read alone: it takes no delete, and notes none."""
    DiskTier(folder / "unwritable").close()
    return DiskTier(folder / "unwritable", read_only=True)
