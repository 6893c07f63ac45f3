"""The public suite over `RedisTier`, on every topology and with every kind of client."""

from __future__ import annotations

import pytest
import redis

from tiercache.testing import Capabilities, TierConformance
from tiercache.tiers.redis import RedisTier

REDIS = Capabilities(
    asynchronous=True, scan=True, clear=True, purge=True, counters=True, lease=True, persistent=True
)


class _Suite(TierConformance):
    capabilities = REDIS

    def tier(self, url, tmp_path, **options):
        # The suite is no test of speed: a busy machine may take its time.
        return RedisTier(url, prefix=f"{tmp_path.name}:", deadline=20, **options)


class TestSingle(_Suite):
    @pytest.fixture(autouse=True)
    def _server(self, valkey):
        valkey.flush()
        self.url = valkey.url

    def make_tier(self, tmp_path):
        return self.tier(self.url, tmp_path)


@pytest.mark.long  # one test of each call is in the usual run
class TestUnixSocketRESP3(_Suite):
    @pytest.fixture(autouse=True)
    def _server(self, valkey):
        valkey.flush()
        self.url = f"{valkey.unix_url}?protocol=3"

    def make_tier(self, tmp_path):
        return self.tier(self.url, tmp_path)


class TestCluster(_Suite):
    @pytest.fixture(autouse=True)
    def _servers(self, valkey_cluster):
        valkey_cluster.flush()
        self.url = valkey_cluster.url

    def make_tier(self, tmp_path):
        return self.tier(self.url, tmp_path)


@pytest.mark.long  # its fail-over is in the usual run
class TestSentinel(_Suite):
    @pytest.fixture(autouse=True)
    def _servers(self, valkey_sentinel):
        valkey_sentinel.master.flush()
        self.url = valkey_sentinel.url

    def make_tier(self, tmp_path):
        return self.tier(self.url, tmp_path)


@pytest.mark.long  # what a given client does otherwise is in `test_redis_tier.py`
class TestGivenClient(_Suite):
    capabilities = Capabilities(scan=True, clear=True, purge=True, counters=True, lease=True, persistent=True)

    @pytest.fixture(autouse=True)
    def _server(self, valkey):
        valkey.flush()
        with redis.Redis(port=valkey.port) as self.client:
            yield

    def make_tier(self, tmp_path):
        return self.tier(self.client, tmp_path)
