"""What tiers say of the backends behind them, as `tiercache check --connect` shows it."""

from __future__ import annotations

from contextlib import closing
from time import time

import pytest
from servers.valkey import running

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier
from tiercache.protocols import SupportsAbout
from tiercache.testing import FakeClock

#: What `RedisTier` needs, and nothing else.
LEAST = "-@all +get +mget +set +del +unlink +pttl +hello +auth +ping +client|setinfo ~*"


def told(tier):
    with closing(tier):
        assert isinstance(tier, SupportsAbout)
        return tier.about()


def test_a_server_of_redis(valkey):
    about = told(RedisTier(valkey.url, deadline=20))
    with valkey.client() as client:
        assert about.version == f"Valkey {client.info()['valkey_version']}"
    assert abs(about.skew) < 5
    assert about.room is None  # no bound was set


def test_a_server_with_a_bound_and_a_user_with_few_rights():
    with running("--maxmemory", "100mb") as server:
        room = told(RedisTier(server.url, deadline=20)).room
        assert 50 << 20 < room < 100 << 20
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "least", "on", ">sesame", *LEAST.split())
        about = told(RedisTier(server.url.replace("//", "//least:sesame@"), deadline=20))
    assert about.version.startswith("Valkey ")  # of which HELLO tells
    assert (about.skew, about.room) == (None, None)


def test_a_cluster(valkey_cluster):
    about = told(RedisTier(valkey_cluster.url, deadline=20))
    assert about.version.startswith("Valkey ")
    assert "," not in about.version  # all nodes are alike
    assert abs(about.skew) < 5


def test_databases(tmp_path, postgres_url):
    about = told(SQLTier(f"sqlite:///{tmp_path}/cache.db"))
    assert about.version.startswith("SQLite 3.")
    assert about.skew is None
    assert about.room > 0
    assert told(SQLTier("sqlite://")).room is None
    about = told(SQLTier(postgres_url, table="tiercache_about", deadline=20))
    assert about.version.startswith("PostgreSQL ")
    assert abs(about.skew) < 5
    assert about.room is None


@pytest.mark.parametrize("kind", ["redis", "sql"])
def test_a_clock_that_is_wrong(kind, valkey, postgres_url):
    """The server's is ahead by what this process's is behind."""
    clock = FakeClock(time() - 600)
    tier = (
        RedisTier(valkey.url, clock=clock, deadline=20)
        if kind == "redis"
        else SQLTier(postgres_url, table="tiercache_about", clock=clock, deadline=20)
    )
    assert 590 < told(tier).skew < 700


def test_a_directory(tmp_path):
    about = told(DiskTier(tmp_path / "cache"))
    assert about.version.startswith("SQLite 3.")
    assert about.room > 0


def test_a_tier_without_a_backend_says_nothing():
    assert not isinstance(MemoryTier(), SupportsAbout)
