"""What an entry in memory weighs over its key and its value, in processes of their own."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.contest import Contest

#: Each makes a cache with room for ``size`` entries and a function that stores one.
MAKERS = {
    "tiercache": """
from tiercache import MemoryTier, TieredCache
cache = TieredCache([MemoryTier(max_entries=size, max_bytes=None)], ttl="1h")
put = cache.set
""",
    "tiercache, s3-fifo": """
from tiercache import MemoryTier, TieredCache
cache = TieredCache([MemoryTier(max_entries=size, max_bytes=None, policy="s3-fifo")], ttl="1h")
put = cache.set
""",
    "dict": """
cache = {}
put = cache.__setitem__
""",
    "functools.lru_cache": """
import functools
values = iter(())
cache = functools.lru_cache(size)(lambda key: values.pop())
def put(key, value):
    global values
    values = [value]
    cache(key)
""",
    "cachetools.LRUCache": """
import cachetools
cache = cachetools.LRUCache(size)
put = cache.__setitem__
""",
    "cachetools.TTLCache": """
import cachetools
cache = cachetools.TTLCache(size, 3600)
put = cache.__setitem__
""",
    "cachebox": """
import cachebox
cache = cachebox.LRUCache(size)
put = cache.__setitem__
""",
    "theine": """
import theine
from datetime import timedelta
cache = theine.Cache(size)
put = lambda key, value: cache.set(key, value, timedelta(hours=1))
""",
    "moka-py": """
import moka_py
cache = moka_py.Moka(size, ttl=3600)
put = cache.set
""",
    "dogpile.cache memory": """
from dogpile.cache import make_region
cache = make_region().configure("dogpile.cache.memory", expiration_time=3600)
put = cache.set
""",
}
#: Keys and values are there before; what is freed while filling is counted as taken, as the system does.
MEASURE = """
import gc, sys
size = int(sys.argv[1])
{maker}
def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
for number in range(100):
    put(f"warm-{{number}}", b"x")
pairs = [(f"key-{{number}}", number.to_bytes(100)) for number in range(size)]
before = resident()
for key, value in pairs:
    put(key, value)
print((resident() - before) / size)
"""


def weighed(maker: str, size: int) -> float:
    command = [sys.executable, "-c", MEASURE.format(maker=maker), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)  # noqa: S603 - our own code
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc what is resident")
def test_memory_per_entry(hold: Any) -> None:
    size = 100_000
    contest = Contest("entry-bytes", "Memory of an entry over its key and value", thing="entry", unit="bytes")
    for name, maker in MAKERS.items():
        imported = re.search(r"^(?:from|import) (\w+)", maker, re.MULTILINE)
        if imported is not None and importlib.util.find_spec(imported[1]) is None:
            contest.absent(name, "not installed")
        else:
            contest.add(name, lambda maker=maker: weighed(maker, size))
    for name in ("cashews", "aiocache", "LiteLLM DualCache", "py-key-value-aio", "kmcache"):
        contest.absent(name, "is written to on an event loop, whose own memory would be weighed with it")
    contest.at_most(280)
    hold(contest)
