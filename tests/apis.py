"""One test for both APIs: a call of a cache's method, or of its async twin."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

__all__ = ["blocking", "both_apis", "native"]


def blocking(cache: Any, verb: str, *args: Any, **options: Any) -> Any:
    """``cache.verb(...)``; a listing as a list."""
    result = getattr(cache, verb)(*args, **options)
    return list(result) if verb == "keys" else result


def native(cache: Any, verb: str, *args: Any, **options: Any) -> Any:
    """``await cache.averb(...)``, in an event loop of its own; a listing as a list."""

    async def call() -> Any:
        result = getattr(cache, f"a{verb}")(*args, **options)
        return [key async for key in result] if verb == "keys" else await result

    return asyncio.run(call())


#: Gives a test the argument ``call``.
both_apis = pytest.mark.parametrize("call", [blocking, native])
