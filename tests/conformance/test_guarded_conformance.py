"""The suite over tiers that `guarded` gave a deadline, blocking and async, and over one that it gave none."""

from __future__ import annotations

from abilities import DICT, EVERYTHING

from tiercache import guarded
from tiercache.testing import AsyncDictTier, Capabilities, DictTier, TierConformance


class TestGuardedDict(TierConformance):
    # A blocking tier with a deadline serves async callers by itself: one thread away, and not two.
    capabilities = Capabilities(values="any", idle=True, asynchronous=True, **EVERYTHING)

    def make_tier(self, tmp_path):
        return guarded(DictTier(clock=self.clock), deadline=60)


class TestGuardedAsyncDict(TierConformance):
    capabilities = Capabilities(values="any", idle=True, blocking=False, asynchronous=True, **EVERYTHING)

    def make_tier(self, tmp_path):
        return guarded(AsyncDictTier(clock=self.clock), deadline=60)


class TestGuardedWithoutDeadline(TierConformance):
    capabilities = DICT

    def make_tier(self, tmp_path):
        return guarded(DictTier(clock=self.clock), retries=1)
