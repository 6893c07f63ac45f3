"""Names of test cases that are the same in every process, as tests on several processors need them."""

from __future__ import annotations

import re

__all__ = ["plain_repr"]


def plain_repr(value: object) -> str:
    """The ``repr`` of ``value`` without addresses, and of a set in one order. For ``ids=``."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
