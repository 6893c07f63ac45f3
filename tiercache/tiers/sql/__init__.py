"""The SQL tier: engines, dialects, statements as plans, and the byte store on them."""

from tiercache.tiers.sql.tier import SQLTier

__all__ = ["SQLTier"]
