"""A multi-tier cache: memory over disk over SQL or Redis.

Importing this module imports no backend: a tier, and what it needs, is imported when its name is
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tiercache._loaded import Loaded
from tiercache.chain import TieredCache, WriteResult
from tiercache.entry import UNSET, Entry
from tiercache.errors import (
    ArchiveError,
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
from tiercache.events import BreakerClosed, BreakerOpened, Event, TierFailed
from tiercache.stats import CacheStats, TierStats

if TYPE_CHECKING:
    from tiercache._guarded import guarded
    from tiercache.registry import register_codec, register_tier
    from tiercache.tiers.disk import DiskTier
    from tiercache.tiers.encoded import EncodedTier
    from tiercache.tiers.memory import MemoryTier
    from tiercache.tiers.redis import RedisTier
    from tiercache.tiers.sql import SQLTier

__version__ = "0.1.0.dev0"

__all__ = [
    "UNSET",
    "ArchiveError",
    "BreakerClosed",
    "BreakerOpened",
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
    "LoadError",
    "Loaded",
    "MemoryTier",
    "MissingPackage",
    "RedisTier",
    "SQLTier",
    "TierCacheError",
    "TierError",
    "TierFailed",
    "TierFull",
    "TierStats",
    "TierTimeout",
    "TierUnavailable",
    "TieredCache",
    "WriteError",
    "WriteResult",
    "guarded",
    "register_codec",
    "register_tier",
]

_LAZY = {
    "DiskTier": "tiercache.tiers.disk",
    "EncodedTier": "tiercache.tiers.encoded",
    "MemoryTier": "tiercache.tiers.memory",
    "RedisTier": "tiercache.tiers.redis",
    "SQLTier": "tiercache.tiers.sql",
    "guarded": "tiercache._guarded",
    "register_codec": "tiercache.registry",
    "register_tier": "tiercache.registry",
}


def __getattr__(name: str) -> Any:
    try:
        module = import_module(_LAZY[name])
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
