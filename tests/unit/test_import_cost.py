"""What imports of tiercache do not pay for: it is a matter of which modules, not of a stop-watch."""

from __future__ import annotations

import subprocess
import sys

import pytest

BACKENDS = {
    "diskcache",
    "redis",
    "sqlalchemy",
    "numpy",
    "cryptography",
    "backports.zstd",
    "compression.zstd",
    "langchain",
    "langchain_core",
    "pydantic",
    "yaml",
    "xxhash",
}
#: Of the standard library's modules those that cost as much as the package itself, or more.
HEAVY = {
    "asyncio",
    "concurrent.futures",
    "datetime",
    "logging",
    "ssl",
    "sqlite3",
    "multiprocessing",
    "unittest",
    "importlib.metadata",
}
A_CACHE = """
from tiercache import TieredCache, MemoryTier
with TieredCache([MemoryTier()]) as cache:
    cache.set("a", b"1")
    assert cache.get("a") == b"1"
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("from tiercache import TieredCache, Entry, TierError, CacheStats", BACKENDS | HEAVY),
        ("import tiercache.codecs", BACKENDS | HEAVY),
        ("import tiercache.testing", BACKENDS | {"pytest"}),
        ("from tiercache import *", set()),
        (
            A_CACHE,
            BACKENDS | HEAVY - {"concurrent.futures", "logging"},  # closing it waits for its promoter
        ),
    ],
    ids=["names", "codecs", "testing", "everything", "a cache in memory"],
)
def test_what_is_not_needed_is_not_imported(code, heavy):
    program = f"{code}\nimport sys\nprint(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "tiercache" in loaded
    assert loaded & heavy == set()


def test_the_package_by_itself_imports_nothing_of_ours():
    """So that the command can be interrupted while it is being imported, and ends in one line."""
    code = "import sys, tiercache; print(*[name for name in sys.modules if name.startswith('tiercache')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "tiercache\n"


def test_a_cache_in_memory_that_is_left_open_imports_nothing_to_end_with():
    code = """
import atexit, sys
atexit.register(lambda: print(*sys.modules))  # what is registered first runs last
from tiercache import MemoryTier, TieredCache
TieredCache([MemoryTier()]).set("a", b"1")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = set(done.stdout.split())
    assert "tiercache" in loaded
    assert loaded & (BACKENDS | HEAVY | {"cachetools", "hashlib", "pathlib", "random"}) == set()
