"""What the tiers of `tiercache.testing` say of themselves to the suite for tiers."""

from __future__ import annotations

from tiercache.testing import Capabilities

__all__ = ["DICT"]

#: Of a `DictTier`.
DICT = Capabilities(
    values="any",
    scan=True,
    clear=True,
    purge=True,
    size=True,
    counters=True,
    lease=True,
    clock=True,
    idle=True,
)
