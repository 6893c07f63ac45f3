"""`RedisTier` over TLS: certificates are checked, the server's and, where it wants one, the client's."""

from __future__ import annotations

import asyncio

import pytest
from tls_front import authority, identity, tls_front

from tiercache import RedisTier, TieredCache


@pytest.fixture
def trusted(tmp_path):
    return authority(tmp_path)


def both(url):
    """Whether blocking and awaited calls are served by the server at ``url``; it must be the same of both."""

    async def awaited():
        async with TieredCache([RedisTier(url, deadline=20)]) as cache:
            result = await cache.amset({"b": b"2"}) if served else None
            assert await cache.amget(["a", "b"]) == ([b"1", b"2"] if served else [None, None])
            assert served == (result is not None)
            return cache.stats().tiers[0].errors

    with TieredCache([RedisTier(url, deadline=20)]) as cache:
        cache.get("a")
        served = cache.stats().tiers[0].errors == 0
        if served:
            cache.set("a", b"1")
            assert cache.get("a") == b"1"
    assert (asyncio.run(awaited()) == 0) == served
    return served


@pytest.mark.parametrize(
    ("host", "known", "served"),
    [("localhost", True, True), ("localhost", False, False), ("elsewhere", True, False)],
    ids=["trusted", "signed by nobody we know", "another host's"],
)
def test_the_servers_certificate_is_checked(valkey, tmp_path, trusted, host, known, served):
    with tls_front(valkey.port, identity(tmp_path, host, trusted)) as port:
        believed = trusted if known else authority(tmp_path, "another")
        assert both(f"rediss://localhost:{port}/0?ssl_ca_certs={believed.file}") == served


def test_a_client_shows_its_certificate(valkey, tmp_path, trusted):
    server, client = identity(tmp_path, "localhost", trusted), identity(tmp_path, "client", trusted)
    with tls_front(valkey.port, server, clients=trusted) as port:
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={trusted.file}"
        assert not both(url)
        assert both(f"{url}&ssl_certfile={client.certificate}&ssl_keyfile={client.key}")
