"""The suite over the kit's own tiers, and over its wrappers with nothing to do."""

from __future__ import annotations

from abilities import DICT, EVERYTHING

from tiercache.testing import (
    AsyncDictStore,
    AsyncDictTier,
    Capabilities,
    ChaosTier,
    DictStore,
    DictTier,
    SpyTier,
    TierConformance,
)
from tiercache.tiers.encoded import EncodedTier


class TestDictTier(TierConformance):
    capabilities = DICT

    def make_tier(self, tmp_path):
        return DictTier(clock=self.clock)


class TestAsyncDictTier(TierConformance):
    capabilities = Capabilities(values="any", idle=True, blocking=False, asynchronous=True, **EVERYTHING)

    def make_tier(self, tmp_path):
        return AsyncDictTier(clock=self.clock)


class TestSpiedTier(TestDictTier):
    def make_tier(self, tmp_path):
        return SpyTier(DictTier(clock=self.clock))


class TestQuietChaos(TestAsyncDictTier):
    def make_tier(self, tmp_path):
        return ChaosTier(AsyncDictTier(clock=self.clock))


class TestEncodedDict(TierConformance):
    capabilities = Capabilities(counters=True, clock=True)

    def make_tier(self, tmp_path):
        return EncodedTier(DictStore(), clock=self.clock)


class TestEncodedAsyncDict(TierConformance):
    capabilities = Capabilities(blocking=False, asynchronous=True, counters=True, clock=True)

    def make_tier(self, tmp_path):
        return EncodedTier(AsyncDictStore(), clock=self.clock)
