"""The `tiercache` command. Importing this package imports no package that only the command needs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress

from tiercache.errors import MissingPackage

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (those of the process by default); its exit code.

    0: done. 1: there was nothing, or something is wrong, and a line or two on stderr say what. 2: the command
    line is wrong. 130: Ctrl-C. 141: who read stdout went away (`tiercache keys | head`); nobody is told.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    closed = _occupied()
    try:
        from tiercache.cli._app import run

        return run(arguments)
    except MissingPackage as error:
        sys.stderr.write(f"tiercache: {error}\n")
        return 1
    except ImportError as error:
        package = (error.name or "").split(".")[0]
        if package in ("", "tiercache"):
            raise  # that is no missing package
        extra = "demo" if arguments[:1] == ["demo"] else "cli"
        sys.stderr.write(f"tiercache: {MissingPackage(package, extra, 'the command')}\n")
        return 1
    except BrokenPipeError:
        _abandon_stdout()
        return 141
    except OSError as error:  # the place that stdout leads to is full, or the temporary folder is
        shut = closed and error.errno == errno.EBADF and error.filename is None
        sys.stderr.write(f"tiercache: {f'{closed} is closed' if shut else _plainly(error)}\n")
        _abandon_stdout()
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("tiercache: interrupted\n")
        return 130


def _occupied() -> str:
    """Which of stdin and stdout were closed (``>&-`` in a shell). They become such as fail when they are
    used: a file of ours that is opened would be given their number, and what is written to stdout would go
    into a database."""
    closed = []
    for name, mode, flags in (("stdin", "r", os.O_WRONLY), ("stdout", "w", os.O_RDONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, flags), mode))
            closed.append(name)
    if sys.stderr is None:  # nobody hears what is said, and that is no reason to fail
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    return " or ".join(closed)


def _plainly(error: OSError) -> str:
    """``error`` as a shell's own tools say it."""
    if error.strerror is None:
        return str(error) or type(error).__name__
    return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"


def _abandon_stdout() -> None:
    """If stdout holds text that it cannot write, let it go; the interpreter's end would try once more."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError), open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no file of ours
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
