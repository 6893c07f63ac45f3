"""The suite over tiers as the chain sees them: async ones called blocking, blocking ones awaited."""

from __future__ import annotations

from dataclasses import replace

import pytest
from abilities import DICT

from tiercache import DiskTier, EncodedTier, MemoryTier
from tiercache._running.bridge import BLOCKING, NATIVE, drive
from tiercache.protocols import CAPABILITIES
from tiercache.testing import AsyncDictStore, AsyncDictTier, Capabilities, DictTier, TierConformance


class Ported:
    """A tier made of the port to another one."""

    def __init__(self, tier, runtime):
        port = runtime.port(tier)
        for verb in ("mget", "mset", "mdelete", "close", *CAPABILITIES):
            method = getattr(port, verb)
            if method is not None:
                setattr(self, *self._adapted(verb, method))
        for name in ("size", "counters", "stores_bytes"):
            if hasattr(tier, name):
                setattr(self, name, getattr(tier, name))


class Blocking(Ported):
    def __init__(self, tier):
        super().__init__(tier, BLOCKING)

    def _adapted(self, verb, method):
        return verb, lambda *args, **options: drive(method(*args, **options))


class Native(Ported):
    def __init__(self, tier):
        super().__init__(tier, NATIVE)

    def _adapted(self, verb, method):
        return f"a{verb}", method


class TestBlockingCallersOfAnAsyncTier(TierConformance):
    capabilities = DICT

    def make_tier(self, tmp_path):
        return Blocking(AsyncDictTier(clock=self.clock))


class TestBlockingCallersOfAnAsyncStore(TierConformance):
    capabilities = Capabilities(counters=True, clock=True)

    def make_tier(self, tmp_path):
        return Blocking(EncodedTier(AsyncDictStore(), clock=self.clock))


class TestAsyncCallersOfABlockingTier(TierConformance):
    capabilities = replace(DICT, blocking=False, asynchronous=True)

    def make_tier(self, tmp_path):
        return Native(DictTier(clock=self.clock))


class TestAsyncCallersOfTheMemoryTier(TestAsyncCallersOfABlockingTier):
    capabilities = replace(DICT, blocking=False, asynchronous=True, lease=False, idle=False)

    def make_tier(self, tmp_path):
        return Native(MemoryTier(clock=self.clock))


@pytest.mark.long  # the memory tier has all that the view asks for
class TestAsyncCallersOfTheDiskTier(TierConformance):
    capabilities = replace(
        DICT, values="bytes", blocking=False, asynchronous=True, size=False, persistent=True
    )

    def make_tier(self, tmp_path):
        return Native(DiskTier(tmp_path / "cache", clock=self.clock))
