"""Which of many parameters the usual run tries; all of them are tried among the long tests."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import pytest

__all__ = ["usually"]


def usually(chosen: Container[Any], every: Iterable[Any]) -> list[Any]:
    """``every`` value as a parameter; those that are not ``chosen`` are long tests. One that is a tuple is of
    so many arguments."""
    return [
        pytest.param(
            *(each if isinstance(each, tuple) else (each,)),
            marks=() if each in chosen else pytest.mark.long,
        )
        for each in every
    ]
