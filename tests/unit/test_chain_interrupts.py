"""A blocking call that is interrupted, as by Ctrl-C or a task queue's time limit: what it was at is no
obstacle to those who come later."""

import asyncio
import subprocess
import sys

import pytest

from tiercache import TieredCache
from tiercache.testing import AsyncDictTier, DictTier, SpyTier

#: A tier takes half of a write, and is interrupted; then asyncio cannot be imported.
INTERRUPTED = """
import sys
from tiercache import MemoryTier, TieredCache
from tiercache.testing import DictTier

class Interrupted(DictTier):
    def mset(self, entries):
        super().mset(entries)
        sys.modules.setdefault("asyncio", None)
        raise KeyboardInterrupt

lowest = Interrupted("lowest")
cache = TieredCache([DictTier("upper"), lowest])
for module in [name for name in sys.modules if name.split(".")[0] == "asyncio"]:
    del sys.modules[module]
try:
    cache.set("k", b"v")
except KeyboardInterrupt:
    print(cache.get("k"), lowest.entries)
"""


def test_who_cleans_up_after_an_interrupt_imports_nothing():
    done = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("None {}\n", 0), done.stderr


def test_a_close_that_is_cancelled_while_a_tier_closes_still_closes_the_others():
    class Far(AsyncDictTier):
        async def aclose(self):
            closing.set()
            await asyncio.Event().wait()

    class Failing(DictTier):
        def close(self):
            raise OSError("it failed to close")

    upper, lowest = SpyTier(DictTier("upper")), SpyTier(DictTier("lowest"))
    closing = asyncio.Event()

    async def run():
        cache = TieredCache([upper, Failing("failing"), Far(), lowest])
        task = asyncio.create_task(cache.aclose())
        await closing.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert (upper.count("close"), lowest.count("close")) == (1, 1)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_a_close_that_is_interrupted_while_a_tier_closes_still_closes_the_others(interruption):
    class Interrupted(DictTier):
        def close(self):
            raise interruption

    upper, lowest = SpyTier(DictTier("upper")), SpyTier(DictTier("lowest"))
    cache = TieredCache([upper, Interrupted("between"), lowest])
    with pytest.raises(interruption):
        cache.close()
    assert (upper.count("close"), lowest.count("close")) == (1, 1)
