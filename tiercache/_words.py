"""How messages count entries and keys."""

from __future__ import annotations

__all__ = ["entries", "keys"]


def entries(count: int) -> str:
    """``"1 entry"``, ``"1,000 entries"``."""
    return f"{count:,} {'entry' if count == 1 else 'entries'}"


def keys(count: int) -> str:
    """``"1 key"``, ``"1,000 keys"``."""
    return f"{count:,} {'key' if count == 1 else 'keys'}"
