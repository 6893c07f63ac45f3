"""The suite for tiers over the memory tier: its own keys, and one of its namespaces."""

from __future__ import annotations

import pytest
from selections import usually

from tiercache.testing import Capabilities, TierConformance
from tiercache.tiers.memory import MemoryTier

ABILITIES = {"scan": True, "clear": True, "purge": True, "clock": True, "idle": True, "bounded": True}


class TestMemoryTier(TierConformance):
    capabilities = Capabilities(values="any", size=True, counters=True, **ABILITIES)

    def make_tier(self, tmp_path):
        return MemoryTier(clock=self.clock)

    def make_bounded_tier(self, tmp_path, max_bytes):
        return MemoryTier(clock=self.clock, max_bytes=max_bytes)


class TestOtherPolicies(TestMemoryTier):
    @pytest.fixture(autouse=True, params=usually({"s3-fifo"}, ["lfu", "random", "s3-fifo"]))
    def _policy(self, request):
        self.policy = request.param

    def make_tier(self, tmp_path):
        return MemoryTier(clock=self.clock, policy=self.policy)

    def make_bounded_tier(self, tmp_path, max_bytes):
        return MemoryTier(clock=self.clock, policy=self.policy, max_bytes=max_bytes)
