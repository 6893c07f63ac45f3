"""What an adapter gives of a cache: the same few operations, each as its documentation says it is done.

An operation that a cache has not is not there. ``can_…`` methods are features, each shown by using it: what
they return is what the page says.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["MISS", "Absent", "Adapter"]

MISS: Final = object()


class Absent(Exception):
    """The cache has no such operation."""


class Adapter:
    """``told``: ``folder`` (a machine's own), ``port`` of a Redis, ``life`` of
    entries in seconds, ``bytes`` to stay below."""

    awaited: bool = False

    def __init__(self, told: dict[str, Any]) -> None:
        self.folder: str = told["folder"]
        self.port: int = told.get("port", 0)
        self.life: float = told.get("life", 3600)
        self.url = f"redis://127.0.0.1:{self.port}/0"

    async def begin(self) -> None:
        """What needs a running event loop."""
