"""A multi-tier cache: memory over disk over SQL or Redis.

Importing this module imports nothing else: what a name stands for is imported when it is first used. So a
backend is imported by whoever uses it; and the command is there, to end in one line when it is interrupted,
before what takes its time is imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tiercache._guard.guarded import guarded
    from tiercache._loading.loaded import Loaded
    from tiercache.budget import Budget
    from tiercache.chain import TieredCache, WriteResult
    from tiercache.entry import UNSET, Entry
    from tiercache.errors import (
        ArchiveError,
        BudgetExceeded,
        CacheClosed,
        CodecError,
        ConfigError,
        EntryRejected,
        ForeignPayload,
        LoadError,
        MissingPackage,
        TierCacheError,
        TierError,
        TierFull,
        TierTimeout,
        TierUnavailable,
        WriteError,
    )
    from tiercache.events import BreakerClosed, BreakerOpened, BudgetReached, Event, TierFailed
    from tiercache.ledger import Ledger, LedgerRow, Statement
    from tiercache.popular import PopularKey
    from tiercache.registry import register_codec, register_tier
    from tiercache.stats import CacheStats, TierStats
    from tiercache.tiers.disk import DiskTier
    from tiercache.tiers.encoded import EncodedTier
    from tiercache.tiers.memory import MemoryTier
    from tiercache.tiers.null import NullTier
    from tiercache.tiers.redis import RedisTier
    from tiercache.tiers.sql import SQLTier
    from tiercache.tokens import TokenUsage, report_usage

__version__ = "0.1.0.dev0"

__all__ = [
    "UNSET",
    "ArchiveError",
    "BreakerClosed",
    "BreakerOpened",
    "Budget",
    "BudgetExceeded",
    "BudgetReached",
    "CacheClosed",
    "CacheStats",
    "CodecError",
    "ConfigError",
    "DiskTier",
    "EncodedTier",
    "Entry",
    "EntryRejected",
    "Event",
    "ForeignPayload",
    "Ledger",
    "LedgerRow",
    "LoadError",
    "Loaded",
    "MemoryTier",
    "MissingPackage",
    "NullTier",
    "PopularKey",
    "RedisTier",
    "SQLTier",
    "Statement",
    "TierCacheError",
    "TierError",
    "TierFailed",
    "TierFull",
    "TierStats",
    "TierTimeout",
    "TierUnavailable",
    "TieredCache",
    "TokenUsage",
    "WriteError",
    "WriteResult",
    "guarded",
    "register_codec",
    "register_tier",
    "report_usage",
]

_HOMES = {
    "BreakerClosed": "events",
    "BreakerOpened": "events",
    "Budget": "budget",
    "BudgetReached": "events",
    "CacheStats": "stats",
    "DiskTier": "tiers.disk",
    "EncodedTier": "tiers.encoded",
    "Entry": "entry",
    "Event": "events",
    "Ledger": "ledger",
    "LedgerRow": "ledger",
    "Loaded": "_loading.loaded",
    "MemoryTier": "tiers.memory",
    "NullTier": "tiers.null",
    "PopularKey": "popular",
    "RedisTier": "tiers.redis",
    "SQLTier": "tiers.sql",
    "Statement": "ledger",
    "TierFailed": "events",
    "TierStats": "stats",
    "TieredCache": "chain",
    "TokenUsage": "tokens",
    "UNSET": "entry",
    "WriteResult": "chain",
    "guarded": "_guard.guarded",
    "register_codec": "registry",
    "register_tier": "registry",
    "report_usage": "tokens",
}
#: Modules that can be had as attributes, without an import of their own.
_MODULES = (
    "chain", "entry", "errors", "events", "keys", "loading", "policies", "protocols", "stats", "units",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"tiercache.{name}")
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"tiercache.{_HOMES.get(name, 'errors')}")
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
