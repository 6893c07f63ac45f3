"""The suite over chains of one, two and three tiers, each as the tier that it is for another chain."""

from __future__ import annotations

import json
from dataclasses import replace
from types import MappingProxyType

import pytest

from tiercache import DiskTier, EncodedTier, MemoryTier, SQLTier, TieredCache
from tiercache.testing import AsyncDictTier, Capabilities, DictStore, DictTier, TierConformance

CHAIN = Capabilities(
    values="any", asynchronous=True, scan=True, clear=True, purge=True, lease=True, clock=True
)


class Tagged:
    """A codec for every object of the suite: JSON, with a name for each type that JSON lacks.

    Not `ast.literal_eval`: in CPython 3.11 it fails now and then when several threads call it.
    """

    name = "tagged"

    def encode(self, value):
        return json.dumps(self._tagged(value)).encode()

    def decode(self, data):
        return self._plain(json.loads(data))

    def _tagged(self, value):
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, list | tuple):
            return {type(value).__name__: [self._tagged(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[key, self._tagged(item)] for key, item in value.items()]}
        return value

    def _plain(self, value):
        if not isinstance(value, dict):
            return value
        ((kind, inner),) = value.items()
        if kind == "bytes":
            return bytes.fromhex(inner)
        if kind == "dict":
            return {key: self._plain(item) for key, item in inner}
        return (tuple if kind == "tuple" else list)(self._plain(item) for item in inner)


@pytest.mark.long  # a chain in a chain goes the same ways
class TestOneTier(TierConformance):
    capabilities = CHAIN

    def make_tier(self, tmp_path):
        return TieredCache([DictTier(clock=self.clock)], codec=Tagged(), clock=self.clock).as_tier()


@pytest.mark.long  # three tiers and views go the same ways
class TestTwoTiersInANamespace(TierConformance):
    capabilities = CHAIN

    def make_tier(self, tmp_path):
        tiers = [MemoryTier(clock=self.clock), AsyncDictTier(clock=self.clock)]
        chain = TieredCache(tiers, namespace="a/b", codec=Tagged(), promote="inline", clock=self.clock)
        return chain.as_tier()


class TestThreeTiers(TierConformance):
    capabilities = replace(CHAIN, persistent=True)
    exceptions = MappingProxyType(
        {
            "test_two_at_once_see_each_other": "memory may hold an older value for as long as its ttl cap",
        }
    )

    def make_tier(self, tmp_path):
        tiers = [
            MemoryTier(clock=self.clock),
            DiskTier(tmp_path / "disk", clock=self.clock),
            SQLTier(f"sqlite:///{tmp_path}/sql.db", clock=self.clock),
        ]
        return TieredCache(tiers, namespace="app", codec=Tagged(), clock=self.clock).as_tier()


class TestAChainInAChain(TierConformance):
    capabilities = CHAIN

    def make_tier(self, tmp_path):
        inner = TieredCache([DictTier(clock=self.clock)], clock=self.clock)
        tiers = [MemoryTier(clock=self.clock), inner]
        return TieredCache(tiers, namespace="outer", codec=Tagged(), clock=self.clock).as_tier()


class TestATinyMemoryAboveBytes(TierConformance):
    """Nearly every read is answered below, and promoted into room that another read wants."""

    capabilities = replace(CHAIN, scan=False, clear=False, purge=False, lease=False)
    exceptions = MappingProxyType(
        {"test_can_do_what_it_declares": "what the memory can list, clear and purge is not all there is"}
    )

    def make_tier(self, tmp_path):
        tiers = [MemoryTier(max_entries=2, clock=self.clock), EncodedTier(DictStore(), clock=self.clock)]
        return TieredCache(tiers, codec=Tagged(), clock=self.clock).as_tier()
