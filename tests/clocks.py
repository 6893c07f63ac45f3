"""A plug-in: the clock of tests that turn its hands."""

from __future__ import annotations

import pytest

from tiercache.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    """It stands still until it is turned."""
    return FakeClock()
