"""What tests of handlers begin with; FastAPI is imported by those that ask for it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tiercache.testing import FakeClock


@pytest.fixture
def app() -> Any:
    """An application with a cache in memory, whose time is a clock's of the test."""
    from fastapi_apps import new_app

    return new_app(FakeClock())


@pytest.fixture
def count() -> Callable[[], int]:
    """Each call one more: a response that is made anew is another."""
    return itertools.count(1).__next__
