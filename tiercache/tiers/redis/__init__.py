"""The Redis tier: addresses and options, clients of three kinds, and commands on the wire."""

from tiercache.tiers.redis.tier import RedisTier

__all__ = ["RedisTier"]
