"""A write whose caller was told that it failed is carried out after all: what the journal is there for."""

from __future__ import annotations

import asyncio

import pytest
from faults.late_writes import arrived, given_up, on_its_way
from faults.scenarios_network import patiently
from servers.valkey import running

from tiercache.entry import Entry
from tiercache.testing import FaultyProxy
from tiercache.tiers.redis import RedisTier

PATIENT = 30
HASTY = 0.25


@pytest.mark.parametrize("awaited", [False, True])
def test_a_stopped_server_carries_out_what_timed_out(awaited: bool) -> None:
    with running() as server, asyncio.Runner() as runner:
        tier = RedisTier(server.url, deadline=HASTY)
        entries = {"key": Entry(b"late")}
        patiently(lambda: tier.mset({"key": Entry(b"early")}))
        patiently(lambda: runner.run(tier.amget(["key"])))

        def write() -> None:
            if awaited:
                runner.run(tier.amset(entries))
            else:
                tier.mset(entries)

        with given_up(server, write):
            pass
        arrived(server, b"tiercache:key", b"late")
        patient = RedisTier(server.url, deadline=PATIENT)
        assert patient.mget(["key"])["key"].value == b"late"
        patient.close()
        runner.run(tier.aclose())


def test_a_write_on_its_way_comes_after_the_delete_that_settled_it() -> None:
    with running() as server, FaultyProxy(("127.0.0.1", server.port)) as proxy:
        tier = RedisTier(f"redis://127.0.0.1:{proxy.port}", deadline=HASTY)
        patient = RedisTier(server.url, deadline=PATIENT)
        patient.mset({"key": Entry(b"early")})
        assert patiently(lambda: tier.mget(["key"]))["key"].value == b"early"
        with on_its_way(proxy, lambda: tier.mset({"key": Entry(b"late")})):
            patient.mdelete(["key"])
            assert patient.mget(["key"]) == {}
        arrived(server, b"tiercache:key", b"late")
        assert patient.mget(["key"])["key"].value == b"late"
        tier.close()
        patient.close()
