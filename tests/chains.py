"""Chains over every kind of tier, for what has to behave alike on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache

__all__ = ["KINDS", "chain_of"]

KINDS = ["memory", "disk", "SQLite", "Valkey"]


def chain_of(kind: str, request: pytest.FixtureRequest, folder: Path) -> TieredCache[Any]:
    """Memory, over the tier of ``kind`` in ``folder`` or on an empty server."""
    tiers: list[Any] = [MemoryTier()]
    if kind == "disk":
        tiers.append(DiskTier(folder / "disk"))
    if kind == "SQLite":
        tiers.append(SQLTier(f"sqlite:///{folder}/cache.db", deadline=20))
    if kind == "Valkey":
        server = request.getfixturevalue("valkey")
        server.flush()
        tiers.append(RedisTier(server.url, deadline=20))
    return TieredCache(tiers)
