"""The `tiercache` command as a shell calls it: in this process (quick), in one of its own, in a terminal."""

from __future__ import annotations

import errno
import io
import os
import pty
import re
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pythons

from tiercache.cli import main

#: What a shell would start.
COMMAND = [sys.executable, "-m", "tiercache"]
#: The same, as the installation has it.
SCRIPT = [str(Path(sysconfig.get_path("scripts"), "tiercache"))]
#: How a terminal is told of a colour.
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)[;\dm]")


@dataclass(frozen=True)
class Done:
    """A command that is over: its exit code and what it wrote."""

    code: int
    raw: bytes
    err: str

    @property
    def out(self) -> str:
        return self.raw.decode()


def run(*arguments: object, stdin: bytes = b"") -> Done:
    """The command in this process, with pipes for its streams."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    given = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    with redirect_stdout(out), redirect_stderr(err), patch.object(sys, "stdin", given):
        code = main([str(one) for one in arguments])
    return Done(code, out.buffer.getvalue(), err.buffer.getvalue().decode())


def spawn(*arguments: object, stdin: bytes = b"", command: Sequence[str] = COMMAND, **variables: str) -> Done:
    """The command in a process of its own, with pipes for its streams."""
    done = pythons.run(
        [*command, *map(str, arguments)],
        input=stdin,
        env={**os.environ, **variables},
        capture_output=True,
        check=False,
        timeout=60,
    )
    return Done(done.returncode, done.stdout, done.stderr.decode())


def in_a_terminal(*arguments: object, typed: bytes = b"", **variables: str) -> tuple[int, str]:
    """The command on a terminal of 100 columns, at which somebody ``typed``: its exit code, and what that
    shows in the end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40", **variables}
    if "NO_COLOR" not in variables:
        environment.pop("NO_COLOR", None)
    process = pythons.Popen(
        [*COMMAND, *map(str, arguments)], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    os.write(ours, typed)  # the terminal keeps it until it is read
    shown = b""
    try:
        while data := os.read(ours, 65536):
            shown += data
    except OSError as error:
        if error.errno != errno.EIO:  # so Linux says that the last process has left a terminal
            raise
    finally:
        os.close(ours)
    return process.wait(60), shown.decode()
