"""The suite over chains of one, two and three tiers, each as the tier that it is for another chain."""

from __future__ import annotations

import ast
from dataclasses import replace
from types import MappingProxyType

from tiercache import DiskTier, EncodedTier, MemoryTier, SQLTier, TieredCache
from tiercache.testing import AsyncDictTier, Capabilities, DictStore, DictTier, TierConformance

CHAIN = Capabilities(values="any", asynchronous=True, scan=True, clear=True, purge=True, clock=True)
ONE_SKIP = "the default namespace leaves out the namespaces nested in it, and no second range"


class Literals:
    """A codec for every object of the suite."""

    name = "literals"

    def encode(self, value):
        return repr(value).encode()

    def decode(self, data):
        return ast.literal_eval(data.decode())


class TestOneTier(TierConformance):
    capabilities = CHAIN
    exceptions = MappingProxyType({"test_scan_skips_a_range": ONE_SKIP, "test_clear": ONE_SKIP})

    def make_tier(self, tmp_path):
        return TieredCache([DictTier(clock=self.clock)], codec=Literals(), clock=self.clock).as_tier()


class TestTwoTiersInANamespace(TierConformance):
    capabilities = CHAIN

    def make_tier(self, tmp_path):
        tiers = [MemoryTier(clock=self.clock), AsyncDictTier(clock=self.clock)]
        chain = TieredCache(tiers, namespace="a/b", codec=Literals(), promote="inline", clock=self.clock)
        return chain.as_tier()


class TestThreeTiers(TierConformance):
    capabilities = replace(CHAIN, persistent=True)
    exceptions = MappingProxyType(
        {
            "test_two_at_once_see_each_other": "memory may hold an older value for as long as its ttl cap",
            "test_purge_by_age": "the disk tier goes by when a row was stored there",
        }
    )

    def make_tier(self, tmp_path):
        tiers = [
            MemoryTier(clock=self.clock),
            DiskTier(tmp_path / "disk", clock=self.clock),
            SQLTier(f"sqlite:///{tmp_path}/sql.db", clock=self.clock),
        ]
        return TieredCache(tiers, namespace="app", codec=Literals(), clock=self.clock).as_tier()


class TestAChainInAChain(TierConformance):
    capabilities = CHAIN

    def make_tier(self, tmp_path):
        inner = TieredCache([DictTier(clock=self.clock)], clock=self.clock)
        tiers = [MemoryTier(clock=self.clock), inner]
        return TieredCache(tiers, namespace="outer", codec=Literals(), clock=self.clock).as_tier()


class TestATinyMemoryAboveBytes(TierConformance):
    """Nearly every read is answered below, and promoted into room that another read wants."""

    capabilities = replace(CHAIN, scan=False, clear=False, purge=False)
    exceptions = MappingProxyType(
        {"test_can_do_what_it_declares": "what the memory can list, clear and purge is not all there is"}
    )

    def make_tier(self, tmp_path):
        tiers = [MemoryTier(max_entries=2, clock=self.clock), EncodedTier(DictStore(), clock=self.clock)]
        return TieredCache(tiers, codec=Literals(), clock=self.clock).as_tier()
