"""What the log says of an ill tier: soon, seldom, and nobody's secrets."""

from __future__ import annotations

import logging
from contextlib import suppress

import pytest
from apis import both_apis

from tiercache import (
    CodecError,
    DiskTier,
    EncodedTier,
    MemoryTier,
    TieredCache,
    TierFailed,
    TierUnavailable,
    WriteError,
    guarded,
)
from tiercache.codecs import JSONCodec
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise


@pytest.fixture
def ill():
    tier = ChaosTier(DictTier("ill"))
    tier.inject(Raise(RuntimeError("redis://user:sesame@host refused the-key the-value")))
    return tier


@both_apis
def test_the_first_failure_is_a_warning_and_then_one_a_minute(call, ill, caplog):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), guarded(ill, breaker_failures=None)], clock=clock) as cache:
        call(cache, "get", "a")
        (first,) = caplog.records
        assert (first.levelno, first.name) == (logging.WARNING, "tiercache")
        assert "'ill'" in first.getMessage()
        for _ in range(5):
            clock.advance(11)
            call(cache, "get", "a")
            call(cache, "set", "a", b"")
            cache.view("v").get("a")
        assert len(caplog.records) == 1
        clock.advance(5)
        call(cache, "get", "b")
        assert len(caplog.records) == 2


@both_apis
def test_a_delete_that_nobody_asked_for_just_now_is_not_told_as_one(call, caplog):
    clock = FakeClock()
    ill = ChaosTier(DictTier("ill"))
    ill.inject(Raise(), on=["mdelete"])
    with TieredCache([MemoryTier(clock=clock), guarded(ill, breaker_failures=None)], clock=clock) as cache:
        assert call(cache, "delete", "a").failed == ("ill",)
        clock.advance(61)
        assert call(cache, "get", "a") is None  # before it is read, it is to hear of that
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith("tier 'ill' failed to delete (")
    assert second.startswith("tier 'ill' failed to drop old entries (")


def test_each_tier_is_warned_of_for_itself(ill, caplog):
    other = ChaosTier(DictTier("other"))
    other.inject(Raise())
    with TieredCache([ill, other]) as cache:
        cache.get("a")
        cache.get("a")
    assert [record.args[0] for record in caplog.records] == ["ill", "other"]


@both_apis
def test_a_tier_that_another_cache_closed_is_told_as_that(call, caplog, tmp_path):
    shared = DiskTier(tmp_path / "shared")
    with TieredCache([MemoryTier(), shared]) as cache:
        TieredCache([MemoryTier(), shared]).close()
        assert call(cache, "get", "a") is None
        (warning,) = caplog.records
        assert warning.getMessage() == (
            "tier 'disk' failed to read (CacheClosed: the tier was closed; where another cache over it did "
            "that, use views of one cache, or close that one last)"
        )
        with pytest.raises(WriteError, match="where another cache over it did that"):
            call(cache, "delete", "a")


@both_apis
@pytest.mark.parametrize("nested", [False, True], ids=["tiers", "nested"])
def test_what_was_under_way_when_a_cache_was_closed_is_no_failure(call, nested, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    events = []
    lower = DiskTier(tmp_path / "d")
    if nested:
        lower = TieredCache([lower], stats_file=None).as_tier()
    with TieredCache([MemoryTier(), lower], on_event=events.append) as cache:

        def load(key):
            cache.close()
            return b"paid for"

        assert call(cache, "get_or_load", "a", load) == b"paid for"
        names = ["chain" if nested else "disk", "memory"]
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", f"tier {name!r} was closed with its cache before it could write") for name in names
        ]
        assert [guard.counters.errors for guard in cache._stack.guards] == [0, 0]
        assert not any(isinstance(event, TierFailed) for event in events)


@both_apis
def test_no_key_no_value_and_no_password_is_logged(call, caplog):
    caplog.set_level(logging.DEBUG)
    secret = RuntimeError("redis://user:sesame@host refused the-key the-value")
    for verb, args in {
        "get": ("the-key",),
        "mset": ({"the-key": b"the-value"},),
        "delete": ("the-key",),
        "clear": (),
        "get_or_load": ("the-key", lambda key: b"the-value"),
    }.items():
        ill = ChaosTier(DictTier("ill"))
        ill.inject(Raise(secret), on=["mget", "mset", "mdelete", "clear"])
        with TieredCache([MemoryTier(), ill]) as cache, suppress(WriteError):
            call(cache, verb, *args)
        assert caplog.records
        assert all(word not in caplog.text for word in ("sesame", "the-key", "the-value"))
        caplog.clear()


@both_apis
def test_our_own_errors_are_told_in_full(call, caplog):
    ill = ChaosTier(DictTier("ill"))
    ill.inject(Raise(TierUnavailable("nobody answers")))
    with TieredCache([ill]) as cache:
        call(cache, "get", "a")
    assert "nobody answers" in caplog.text


@both_apis
def test_a_loaded_value_that_its_codec_refuses_is_returned_and_not_logged(call, caplog):
    class Chatty(JSONCodec):
        def encode(self, value):
            raise CodecError(f"cannot encode {value}")

    with TieredCache([EncodedTier(DictStore())], codec=Chatty()) as cache:
        assert call(cache, "get_or_load", "the-key", lambda key: "the-value") == "the-value"
        assert call(cache, "mget_or_load", ["the-key"], lambda keys: ["the-value"]) == ["the-value"]
    assert "stored" in caplog.text
    for word in ("the-key", "the-value"):
        assert word not in caplog.text


def test_a_cache_that_is_well_logs_nothing(caplog):
    caplog.set_level(logging.DEBUG)
    with TieredCache([MemoryTier(max_bytes=5), DictTier()]) as cache:
        cache.set("a", b"too large for memory")
        cache.get("a")
        cache.get("b")
    assert caplog.records == []
