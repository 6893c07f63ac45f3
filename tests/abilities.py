"""What the tiers of `tiercache.testing` say of themselves to the suite for tiers."""

from __future__ import annotations

from tiercache.testing import Capabilities

__all__ = ["DICT", "EVERYTHING"]

EVERYTHING = dict.fromkeys(("scan", "clear", "purge", "size", "counters", "lease", "clock"), True)
#: Of a `DictTier`.
DICT = Capabilities(values="any", idle=True, **EVERYTHING)
