"""A tier that keeps objects as they are: views with other codecs, and callers that change what they got."""

from __future__ import annotations

from typing import Any

import pytest

from tiercache import MemoryTier, TieredCache
from tiercache.codecs import JSONCodec, TextCodec
from tiercache.testing import DictTier, SpyTier


@pytest.mark.parametrize("memory", [False, True])
def test_a_view_sees_nothing_that_another_codec_made(memory: bool) -> None:
    with TieredCache([*([MemoryTier()] if memory else []), DictTier()], codec=JSONCodec()) as cache:
        text, plain = cache.with_codec(TextCodec()), cache.with_codec(None)
        cache.set("k", [1])
        assert (text.get("k"), plain.get("k"), cache.get("k")) == (None, None, [1])
        text.set("k", "one")
        assert (text.get("k"), plain.get("k"), cache.get("k")) == ("one", None, None)
        plain.set("k", b"1")
        assert plain.get("k") == b"1"
        text.delete("k")
        assert plain.get("k") is None


@pytest.mark.parametrize("promote", ["inline", "background"])
def test_no_caller_changes_what_another_gets(promote: Any) -> None:
    low = SpyTier(DictTier("low"))
    with TieredCache([DictTier("top"), low], codec=JSONCodec(), promote=promote) as cache:
        given = {"scores": [1]}
        cache.set("k", given)
        given["scores"].append(2)
        for _ in range(3):
            found = cache.get("k")
            assert found == {"scores": [1]}
            found["scores"].append(3)
        drop = cache._core.members[0].guard.tier
        drop.mdelete(["k"])
        found = cache.get("k")  # promoted: behind the caller, who changes it meanwhile
        found["scores"].append(4)
        cache.flush()
        assert cache.get("k") == {"scores": [1]}
        assert drop.entries["k"].value == {"scores": [1]}


def test_a_batch_sees_nothing_that_another_codec_made() -> None:
    with TieredCache([MemoryTier()]) as cache:
        cache.view("v", codec=TextCodec()).set("k", "text")
        plain = cache.view("v")
        assert plain.mget(["k"]) == [None]
        assert plain.mget_or_load(["k"], lambda keys: [b"loaded"]) == [b"loaded"]
