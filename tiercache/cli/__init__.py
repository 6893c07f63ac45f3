"""The `tiercache` command. Importing this package imports no package that only the command needs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tiercache.errors import MissingPackage

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command with ``arguments`` (those of the process by default); its exit code.

    0: done. 1: it failed, and a line on stderr says why. 2: the command line is wrong. 130: Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        from tiercache.cli._app import run

        return run(arguments)
    except ImportError as error:
        package = (error.package if isinstance(error, MissingPackage) else error.name or "").split(".")[0]
        if package in ("", "tiercache"):
            raise  # that is no missing package
        extra = "demo" if arguments[:1] == ["demo"] else "cli"
        sys.stderr.write(f"tiercache: {MissingPackage(package, extra, 'the command')}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("tiercache: interrupted\n")
        return 130
