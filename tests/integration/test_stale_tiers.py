"""Stale entries in real tiers: held, given to who loads, and fresh again after one refresh."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from apis import both_apis
from chains import KINDS, chain_of

LIMIT = 20.0


@both_apis
@pytest.mark.parametrize("kind", KINDS)
def test_a_tier_holds_what_is_stale_and_gives_it_to_who_loads(
    kind: str, call: Any, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with chain_of(kind, request, tmp_path) as cache:
        options: Any = {"stale_for": "1h", "jitter": "10%"}
        call(cache, "mget_or_load", ["a", "b"], lambda keys: [b"old"] * len(keys), ttl=0.05, **options)
        deadline = time.monotonic() + LIMIT
        while cache.mget(["a", "b"]) != [None, None]:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        bottom = cache._core.members[-1]
        for member in cache._core.members[:-1]:  # so that the lowest tier gives it
            assert member.fast is not None
            member.fast.mdelete(["a", "b"])

        def down(_key: str) -> bytes:
            raise OSError

        assert call(cache, "get_or_load", "a", down, stale_if_error=True) == b"old"
        cache.delete("a")
        with pytest.raises(OSError):  # noqa: PT011 - it has no message
            call(cache, "get_or_load", "a", down, stale_if_error=True)
        assert cache.get_or_load("b", lambda _key: b"new", ttl="1h", **options) == b"old"
        cache.flush()
        assert cache.get("b") == b"new"
        stats = cache.stats()
        assert stats.tiers[-1].name == bottom.guard.name
        assert stats.tiers[-1].errors == 0
        assert stats.stale_served == 2
