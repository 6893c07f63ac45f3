"""A plug-in: names of tiers and codecs that a test registers are forgotten after it. Messages list them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from tiercache import registry


@contextmanager
def registering() -> Iterator[None]:
    """Whatever is registered inside, it is not afterwards."""
    tiers, codecs = dict(registry._TIERS), dict(registry._CODECS)
    with patch.object(registry, "_TIERS", tiers), patch.object(registry, "_CODECS", codecs):
        yield


@pytest.fixture
def registries() -> Iterator[None]:
    """The same for a test."""
    with registering():
        yield
