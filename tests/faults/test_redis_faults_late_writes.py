"""A write whose caller was told that it failed is carried out after all: what the journal is there for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from faults.late_writes import arrived, given_up, on_its_way
from faults.scenarios_network import patiently
from missing import restart_process
from servers.valkey import running

from tiercache import DiskTier, TieredCache
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


def test_what_a_load_stored_too_late_is_not_served_after_another_process_deleted_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running() as server, FaultyProxy(("127.0.0.1", server.port)) as proxy:
        hasty = RedisTier(f"redis://127.0.0.1:{proxy.port}", deadline=HASTY)
        slow = TieredCache([DiskTier(tmp_path / "d"), hasty])
        restart_process(monkeypatch)  # from here on two processes, which know nothing of each other
        other = TieredCache([DiskTier(tmp_path / "d"), RedisTier(server.url, deadline=PATIENT)])

        def load(_key: str) -> bytes:
            patiently(lambda: hasty.mget(["key"]))
            proxy.hold()  # and what is sent now, on the connection that there is, arrives later
            return b"late"

        try:
            assert slow.get_or_load("key", load) == b"late"
            assert other.delete("key").ok
        finally:
            proxy.let_go()
        arrived(server, b"tiercache:key", b"late")
        assert other.get("key") is None
        assert slow.get("key") is None
        slow.close()
        other.close()
