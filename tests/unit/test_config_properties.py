"""Whatever is in order builds, and what a cache says of its configuration builds an equal one."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import chdir
from pathlib import Path

import pytest
from configurations import configurations, only_read
from described import described
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from overrides import without_overrides

from tiercache import ConfigError, DiskTier, TieredCache

#: How quick the machine is, is no part of it.
ANY_SPEED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
A_FEW = settings(max_examples=25, derandomize=True, database=None, **ANY_SPEED)
MANY = settings(max_examples=1500, **ANY_SPEED)

#: Any plain data, much of it what options take somewhere.
ANYTHING = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(["none", "5m", "1GiB", "json", "${", "${NO_SUCH}", "memory", "chain", "shared"]),
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=6), inner, max_size=2),
    max_leaves=4,
)


@pytest.fixture(autouse=True)
def _no_overrides(monkeypatch):
    without_overrides(monkeypatch)


def all_of(cache):
    """What a cache was made with, and its views."""
    views = {name: (view._core.path, view.codec, view._ttl) for name, view in cache.views.items()}
    return (
        described(cache),
        cache._staleness,
        repr(cache._manner.pace),
        cache._manner.pace.shared,
        views,
        shared(cache._stack),
    )


def shared(stack):
    """Where a chain, and those in it, share their statistics."""
    inner = [guard.tier._core.stack for guard in stack.guards if hasattr(guard.tier, "_core")]
    return [None if stack.sharing is None else stack.sharing.file.path, *map(shared, inner)]


def beyond(place, value):
    """``value``, with what is in the folder ``place`` seen from there."""
    if isinstance(value, str | Path):
        return str(value).replace(f"{place}{os.sep}", "")
    if isinstance(value, dict):
        return {key: beyond(place, one) for key, one in value.items()}
    return type(value)(beyond(place, one) for one in value) if isinstance(value, list | tuple) else value


def builds_an_equal_one(config):
    with tempfile.TemporaryDirectory() as made, chdir(made):
        place = Path.cwd()  # without symbolic links
        for folder in only_read(config):
            with TieredCache([DiskTier(folder)], stats_file=None) as cache:  # there must be something to read
                cache.set("k", b"value")
        with TieredCache.from_config(config) as cache:
            told = cache.config()
            assert told.keys() == config.keys()
            with TieredCache.from_config(json.loads(json.dumps(told))) as again:
                assert beyond(place, all_of(again)) == beyond(place, all_of(cache))
                assert again.config() == told


@A_FEW
@given(configurations())
def test_what_is_in_order_builds_and_is_told(config):
    builds_an_equal_one(config)


@pytest.mark.long
@MANY
@given(configurations())
def test_what_is_in_order_builds_and_is_told_many_times(config):
    builds_an_equal_one(config)


@A_FEW
@given(configurations(), st.data())
def test_what_is_not_is_a_config_error(config, data):
    options = [(table, name) for table in tables(config) for name in table if name not in ELSEWHERE]
    table, name = data.draw(st.sampled_from(options))
    changed = data.draw(st.sampled_from([name, name.upper(), f"{name}s"]))
    del table[name]
    table[changed] = data.draw(ANYTHING)
    with tempfile.TemporaryDirectory() as place, chdir(place):
        try:
            TieredCache.from_config(config).close()
        except ConfigError as error:
            assert str(error).startswith("the configuration: ")  # noqa: PT017 - it may be in order too


#: What may name a place outside the folder of the test.
ELSEWHERE = ("path", "directory", "url")


def tables(config):
    yield config
    for tier in config["tiers"]:
        yield from tables(tier) if tier["type"] == "chain" else [tier]
    yield from config.get("views", {}).values()
