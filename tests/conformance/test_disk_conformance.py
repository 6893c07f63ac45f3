"""The suite over `DiskTier`."""

from __future__ import annotations

from tiercache import DiskTier
from tiercache.testing import Capabilities, TierConformance

EVERYTHING = dict.fromkeys(
    ("scan", "clear", "purge", "counters", "lease", "persistent", "clock", "idle", "bounded"), True
)


class TestDiskTier(TierConformance):
    capabilities = Capabilities(**EVERYTHING)

    def make_tier(self, tmp_path):
        return DiskTier(tmp_path / "cache", clock=self.clock)

    def make_bounded_tier(self, tmp_path, max_bytes):
        return DiskTier(tmp_path / "cache", max_bytes=max_bytes, clock=self.clock)
