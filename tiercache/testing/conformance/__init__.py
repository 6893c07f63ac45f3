"""The conformance suite: what every tier of a chain must do, as a pytest class to inherit from.

Needs pytest. A test file of yours::

    class TestMyTier(TierConformance):
        capabilities = Capabilities(values="bytes", persistent=True)

        def make_tier(self, tmp_path):
            return MyTier(tmp_path / "data")

Cases are chosen by the capabilities that the class declares, and run through each view that the tier has
(its blocking methods, its async twins). Overriding a case is a `TypeError`; a case that the tier does not
pass is named in ``exceptions`` with the reason, is still run, and must fail.
"""

from __future__ import annotations

from tiercache.testing.conformance.basics import BasicCases
from tiercache.testing.conformance.capabilities import Capabilities
from tiercache.testing.conformance.concurrency import ConcurrencyCases
from tiercache.testing.conformance.keys import KeyCases
from tiercache.testing.conformance.leases import LeaseCases
from tiercache.testing.conformance.lifecycle import LifecycleCases
from tiercache.testing.conformance.ranges import RangeCases
from tiercache.testing.conformance.times import TimeCases

__all__ = ["Capabilities", "TierConformance"]


class TierConformance(
    BasicCases, KeyCases, TimeCases, RangeCases, LeaseCases, LifecycleCases, ConcurrencyCases, cases=True
):
    """The suite. A subclass defines ``make_tier`` and says what the tier can do; see `Suite` for the rest."""
