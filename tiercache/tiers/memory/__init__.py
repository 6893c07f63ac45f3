"""The memory tier: slots and expiry, policies for what goes first, and reads that take no lock."""

from tiercache.tiers.memory.tier import MemoryTier

__all__ = ["MemoryTier"]
