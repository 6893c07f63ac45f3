"""Traces: who answered each key of a store, told only to those who ask."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain import TieredByteStore


@pytest.fixture
def store(tmp_path: Path) -> TieredByteStore:
    with TieredCache([MemoryTier(), DiskTier(tmp_path)]) as below:
        below.mset({"on disk": b"1", "on disk too": b"2"})
    return TieredByteStore(TieredCache([MemoryTier(), DiskTier(tmp_path)]))


def test_each_key_names_the_tier_that_answered(store: TieredByteStore) -> None:
    store.mset([("in memory", b"3")])
    with store.trace() as trace:
        store.mget(["in memory", "on disk", "absent"])
        store.mget(["on disk"])
        asyncio.run(store.amget(["on disk too", "on disk too"]))
        store.mget([])
    store.mget(["on disk"])
    assert [(record.call, record.key, record.answered_by) for record in trace.records] == [
        (1, "in memory", "memory"),
        (1, "on disk", "disk"),
        (1, "absent", None),
        (2, "on disk", "memory"),
        (3, "on disk too", "disk"),
        (3, "on disk too", "disk"),
    ]
    assert all(record.seconds > 0 and record.text is None for record in trace.records)
    store.close()


def test_the_summary_is_a_table_and_data(store: TieredByteStore) -> None:
    with store.trace() as trace:
        store.mget(["on disk", "absent"])
        store.mget(["on disk"])
    summary = trace.summary()
    assert (summary.calls, summary.keys, summary.misses) == (2, 3, 1)
    assert summary.hits == {"memory": 1, "disk": 1}
    assert list(summary.hits) == ["memory", "disk"]  # top down
    assert set(summary.mean_seconds) == {"memory", "disk", "miss"}
    assert summary.seconds == pytest.approx(sum(record.seconds for record in trace.records))
    assert json.loads(json.dumps(summary.as_dict()))["hits"] == {"memory": 1, "disk": 1}
    rows = str(summary).splitlines()
    assert rows[0].startswith("2 calls, 3 keys")
    assert [row.split()[:2] for row in rows[2:]] == [["memory", "1"], ["disk", "1"], ["miss", "1"]]
    assert [line.split()[1] for line in str(trace).splitlines()[1:]] == ["disk", "miss", "memory"]
    store.close()


def test_traces_overlap_and_see_other_threads(store: TieredByteStore) -> None:
    with store.trace() as outer:
        with store.trace() as inner:
            thread = threading.Thread(target=store.mget, args=(["on disk"],))
            thread.start()
            thread.join()
        store.mget(["on disk"])
    assert [record.answered_by for record in inner.records] == ["disk"]
    assert [record.answered_by for record in outer.records] == ["disk", "memory"]
    store.close()


def test_a_call_that_raises_is_not_noted(store: TieredByteStore) -> None:
    with store.trace() as trace:
        with pytest.raises(TypeError):
            store.mget([1])  # type: ignore[list-item]  # what a caller without types may do
        store.close()
        with pytest.raises(Exception, match="closed"):
            store.mget(["on disk"])
    assert trace.records == ()
    assert trace.summary().keys == 0
    assert str(trace.summary()).startswith("0 calls")


def test_nothing_of_a_trace_is_logged(store: TieredByteStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with store.trace():
        store.mget(["on disk", "absent"])
    assert not [record for record in caplog.records if record.name.startswith("tiercache")]
    store.close()
