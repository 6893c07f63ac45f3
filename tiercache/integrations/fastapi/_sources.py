"""Who had a response, as ``X-Cache`` tells it."""

from __future__ import annotations

import re
from typing import Any

from tiercache._chain.answers import Answer, Source
from tiercache.chain import TieredCache

__all__ = ["shown", "source_of"]

_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def source_of(cache: TieredCache[Any], who: Answer | None) -> str:
    """The name of the tier, ``miss`` if the handler ran. ``None``: the memory tier's fast road answered,
    without the core, which would have noted it."""
    if isinstance(who, Source):
        return "miss"
    return shown(cache._stack.guards[0].name if who is None else who)  # noqa: SLF001 - stats() takes far longer


def shown(name: str) -> str:
    """``name`` of a tier, for everybody to see: one that is a URL, or no word, is not told."""
    return name if _TOKEN.fullmatch(name) else "tier"
