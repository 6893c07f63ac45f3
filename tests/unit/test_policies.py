"""The records of what users choose, and what they say to a wrong choice."""

from __future__ import annotations

import pytest

from tiercache import ConfigError, DiskTier, EncodedTier, RedisTier, SQLTier, TieredCache, guarded
from tiercache.policies import Failure
from tiercache.testing import DictStore, DictTier


def _tiers(tmp_path, **options):
    return [
        DiskTier(tmp_path / "disk", **options),
        RedisTier("redis://localhost", **options),
        SQLTier("sqlite://", **options),
        EncodedTier(DictStore(), **options),
    ]


def test_what_each_tier_does_unless_told_otherwise(tmp_path):
    assert [tier.failure for tier in _tiers(tmp_path)] == [
        Failure(deadline=2.0, writes_apart=True),
        Failure(deadline=0.5),
        Failure(deadline=2.0),
        Failure(deadline=None),
    ]
    assert Failure() == Failure(None, 3, 1.0, 30.0, 0, False)


def test_every_tier_can_be_told(tmp_path):
    for tier in _tiers(
        tmp_path, breaker_failures=None, breaker_pause="250ms", breaker_longest="2s", retries=2
    ):
        assert tier.failure.breaker_failures is None
        assert tier.failure.breaker_pause == 0.25
        assert tier.failure.breaker_longest == 2.0
        assert tier.failure.retries == 2


def test_a_pause_longer_than_the_longest_stays_what_it_is():
    for longest in (30.0, "1m"):
        tier = RedisTier("redis://localhost", breaker_pause="5m", breaker_longest=longest)
        assert tier.failure.breaker_longest == 300.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"breaker_failures": 0},
        {"breaker_failures": -1},
        {"breaker_failures": True},
        {"breaker_failures": 1.5},
        {"breaker_failures": "3"},
        {"breaker_pause": 0},
        {"breaker_pause": -1},
        {"breaker_pause": "soon"},
        {"breaker_pause": None},
        {"breaker_pause": "25d"},
        {"breaker_longest": 0},
        {"breaker_longest": "soon"},
        {"breaker_longest": None},
        {"retries": -1},
        {"retries": True},
        {"retries": None},
        {"retries": 0.5},
    ],
)
def test_a_wrong_choice_is_told_by_its_name(wrong, tmp_path):
    (name,) = wrong
    for make in (
        lambda: DiskTier(tmp_path / "disk", **wrong),
        lambda: RedisTier("redis://localhost", **wrong),
        lambda: SQLTier("sqlite://", **wrong),
        lambda: EncodedTier(DictStore(), **wrong),
    ):
        with pytest.raises(ConfigError, match=rf"^(Disk|Redis|SQL|Encoded)Tier\.{name}: "):
            make()
    assert not (tmp_path / "disk").exists(), "told before anything is touched"


def test_a_wait_that_no_clock_can_count_is_refused(tmp_path):
    for deadline in (1e300, "25d"):
        for make in (
            lambda given: DiskTier(tmp_path / "disk", deadline=given),
            lambda given: RedisTier("redis://localhost", deadline=given),
            lambda given: SQLTier("sqlite://", deadline=given),
            lambda given: guarded(DictTier(), deadline=given),
            lambda given: TieredCache([DictTier()], load_deadline=given),
        ):
            with pytest.raises(ConfigError, match=r"deadline: .* is not allowed; it must be 24 days at most"):
                make(deadline)
