"""Plug-ins with fixtures: real servers, which start with the first test that asks for one, the scheduler's
event loops, chains that owe, a clock.
"""

import gc
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from hypothesis import settings

# The tests start hundreds of processes, and each would compile all that it imports anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Each new database waits for the medium several times, and there are thousands: files of tests lie in memory,
# where there is plenty of it. TMPDIR says where else.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder that is made there is private
if "TMPDIR" not in os.environ and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**32:
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# A shell that runs the tests in the background has them ignore Ctrl-C, as their processes then do.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No test is of how fast a machine is. Those that want more examples say so.
settings.register_profile("usual", deadline=None, max_examples=50)
settings.load_profile("usual")

# Until all is imported and collected there is next to no garbage.
gc.disable()

pytest_plugins = [
    "archives",
    "clocks",
    "fastapi_fixtures",
    "faults_table",
    "interleavings",
    "missing",
    "registries",
    "servers.databases",
    "servers.postgres",
    "servers.valkey",
    "ledger_places",  # it imports some of these
]


def pytest_collection_finish() -> None:
    """What was imported and collected is there until the end: no collection of garbage need look at it."""
    gc.enable()
    gc.collect()
    gc.freeze()
