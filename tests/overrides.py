"""Environment variables that set options, for tests of what is said elsewhere."""

from __future__ import annotations

import os

import pytest

__all__ = ["without_overrides"]


def without_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have set some."""
    for variable in os.environ:
        if variable.upper().startswith("TIERCACHE_"):
            monkeypatch.delenv(variable)
