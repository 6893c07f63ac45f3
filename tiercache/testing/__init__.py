"""What authors of tiers, and of programs with caches, need to test them. Public, and as stable as the rest.

`TierConformance` is the suite that every tier passes, ours and yours: see ``docs/how-to/writing-a-tier.md``.
It needs pytest, which is imported when that name is first used; everything else here needs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tiercache.errors import MissingPackage
from tiercache.testing.chaos import ChaosTier, Corrupt, Fault, Hang, Partial, Raise
from tiercache.testing.clock import FakeClock
from tiercache.testing.proxy import BlackHole, Delay, FaultyProxy, HalfOpen, Pass, Refuse, Reset, Truncate
from tiercache.testing.reference import AsyncDictStore, AsyncDictTier, DictStore, DictTier
from tiercache.testing.spy import Call, SpyTier

if TYPE_CHECKING:
    from tiercache.testing.conformance import Capabilities, TierConformance

__all__ = [
    "AsyncDictStore",
    "AsyncDictTier",
    "BlackHole",
    "Call",
    "Capabilities",
    "ChaosTier",
    "Corrupt",
    "Delay",
    "DictStore",
    "DictTier",
    "FakeClock",
    "Fault",
    "FaultyProxy",
    "HalfOpen",
    "Hang",
    "Partial",
    "Pass",
    "Raise",
    "Refuse",
    "Reset",
    "SpyTier",
    "TierConformance",
    "Truncate",
]


def __getattr__(name: str) -> Any:
    if name in {"Capabilities", "TierConformance"}:
        try:
            from tiercache.testing import conformance  # here: pytest is for those who run the suite
        except ModuleNotFoundError as error:
            if error.name != "pytest":
                raise
            raise MissingPackage("pytest", "test", name) from error
        return getattr(conformance, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
