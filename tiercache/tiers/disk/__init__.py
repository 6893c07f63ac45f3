"""The disk tier: a safe directory, diskcache's engine behind a fork gate, its rows, and upkeep."""

from tiercache.tiers.disk.tier import DiskTier

__all__ = ["DiskTier"]
