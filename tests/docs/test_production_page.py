"""The defaults that the page on production names are those of the constructors."""

from __future__ import annotations

import inspect
import re

import pytest
from doc_snippets import ROOT

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier
from tiercache.policies import Failure
from tiercache.tiers.memory import tier as memory_tier
from tiercache.tiers.redis import tier as redis_tier
from tiercache.tiers.sql import _engines
from tiercache.units import duration

PAGE = (ROOT / "docs" / "how-to" / "in-production.md").read_text()


def default(tier, name):
    return inspect.signature(tier).parameters[name].default


@pytest.mark.parametrize("tier", [MemoryTier, DiskTier, SQLTier], ids=lambda tier: tier.__name__)
def test_bounds(tier):
    (cell,) = re.findall(rf"^\| `{tier.__name__}` \| (`max_.*?) \|", PAGE, re.MULTILINE)
    named = dict(re.findall(r"`(\w+)=([^`]+)`", cell))
    assert set(named) == {"max_entries", "max_bytes"}
    for name, text in named.items():
        value = default(tier, name)
        assert text == (f'"{value}"' if isinstance(value, str) else f"{value:_}" if value else "None")


@pytest.mark.parametrize("tier", [DiskTier, SQLTier, RedisTier], ids=lambda tier: tier.__name__)
def test_deadlines(tier):
    (cell,) = re.findall(rf"^\| `{tier.__name__}` \| ([\d.]+ s) \|$", PAGE, re.MULTILINE)
    assert duration(cell, name="the page") == default(tier, "deadline")


def test_breakers():
    policy = Failure()
    assert (policy.breaker_failures, policy.breaker_pause, policy.breaker_longest) == (3, 1.0, 30.0)
    assert "After three failures in a row it is left alone for a second, then two,\nup to 30 s." in PAGE


def test_rights_on_redis():
    rights = set(re.findall(r"[-+][@\w|]+", redis_tier.__doc__.split("suffice:")[1]))
    assert len(rights) > 10
    section = PAGE.split("## Redis and Valkey")[1].split("\n## ")[0]
    assert rights <= set(re.findall(r"[-+][@\w|]+", section))
    assert f"`~{default(RedisTier, 'prefix')}*`" in section


def test_connections():
    assert (_engines._CONNECTIONS, _engines.KEPT) == (15, 5)
    assert "up to 15 connections, and keeps five" in PAGE


def test_how_long_memory_holds_a_copy():
    assert memory_tier._DEFAULT_CAP == 300
    assert "copy for its `ttl`, 300 s unless set" in PAGE
