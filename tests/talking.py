"""Talking with another process over its pipes, a line at a time: both ends."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from typing import Any

__all__ = ["go", "hear", "say", "wait_for"]

#: Seconds after which a process that says nothing hangs.
_LIMIT = 120.0


def say(what: object) -> None:
    """A line of JSON to whoever started this process."""
    os.write(1, (json.dumps(what) + "\n").encode())  # at once, whole, and nothing is left for a fork to copy


def hear(process: subprocess.Popen[str]) -> Any:
    """What ``process`` says next with `say`; fails if it ends instead, and ends it if it hangs."""
    assert process.stdout is not None
    hung = threading.Timer(_LIMIT, process.kill)  # which ends the line
    hung.daemon = True
    hung.start()
    try:
        line = process.stdout.readline()
    finally:
        hung.cancel()
    assert line, f"the other process ended with {process.wait(60)}"
    return json.loads(line)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    """Fails if the next line is not ``word``; then with what the process wrote to its other pipe."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line != f"{word}\n":
        process.kill()
        raise AssertionError(f"{line!r} is not {word!r}: {process.communicate()[1]}")


def go(process: subprocess.Popen[str]) -> None:
    """A line, for which it waits."""
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()
