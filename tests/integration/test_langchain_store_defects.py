"""What LangChain's stores get wrong, shown on them and then on ours.

Where a peer is mended some day, the half of a test that shows its defect fails, and can go.
"""

from __future__ import annotations

import asyncio
import re
import signal
import sys
import threading

import pytest
import pythons
import redis
from langchain_classic.storage import LocalFileStore
from langchain_classic.storage.exceptions import InvalidKeyException
from langchain_sources import RedisStore, SQLStore
from sqlalchemy import create_engine, event

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache
from tiercache.integrations.langchain import TieredByteStore

REFUSED = ["models/gemini:x", "openai_ada002:9f86d081", "a b", "\u00fc", "../outside", "", "x" * 300]


@pytest.fixture
def ours(tmp_path):
    with TieredByteStore.local(tmp_path / "ours") as store:
        yield store


@pytest.fixture
def client(valkey):
    valkey.flush()
    with valkey.client() as client:
        yield client


# -- LocalFileStore --------------------------------------------------------------------------------


def test_keys_that_are_refused(tmp_path, ours):
    theirs = LocalFileStore(tmp_path / "theirs")
    for key in REFUSED:
        with pytest.raises((InvalidKeyException, OSError)):
            theirs.mset([(key, b"v")])
    ours.mset([(key, key.encode()) for key in REFUSED])
    assert ours.mget(REFUSED) == [key.encode() for key in REFUSED]


def test_different_keys_that_are_one_file(tmp_path, ours):
    theirs = LocalFileStore(tmp_path / "theirs")
    for store in (theirs, ours):
        store.mset([("a//b", b"1"), ("a/b", b"2"), ("a/./b", b"3")])
    assert theirs.mget(["a//b", "a/b", "a/./b"]) == [b"3", b"3", b"3"]
    assert ours.mget(["a//b", "a/b", "a/./b"]) == [b"1", b"2", b"3"]


def test_a_prefix_that_is_a_folder(tmp_path, ours):
    theirs = LocalFileStore(tmp_path / "theirs")
    for store in (theirs, ours):
        store.mset([("ab/1", b"v"), ("ab/2", b"v"), ("abc", b"v")])
    assert list(theirs.yield_keys(prefix="a")) == []
    assert sorted(ours.yield_keys(prefix="a")) == ["ab/1", "ab/2", "abc"]
    assert sorted(ours.yield_keys(prefix="ab/")) == ["ab/1", "ab/2"]


THEIRS = "from langchain_classic.storage import LocalFileStore\nopen_store = LocalFileStore\n"
OURS = "from tiercache.integrations.langchain import TieredByteStore\nopen_store = TieredByteStore.local\n"
WRITE = """
import resource, signal, sys
store = open_store(sys.argv[1])
store.mset([("key", b"a" * 1000)])
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))
store.mset([("key", b"b" * 8_000_000)])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="this system has no limit for the size of a file")
def test_a_kill_in_the_middle_of_a_write(tmp_path):
    # The system kills the process half way through the file: kill -9, at a moment that can be chosen.
    for opening, folder in ((THEIRS, "theirs"), (OURS, "ours")):
        code = [sys.executable, "-c", opening + WRITE, str(tmp_path / folder)]
        assert pythons.run(code, check=False, timeout=60).returncode == -signal.SIGXFSZ
    assert LocalFileStore(tmp_path / "theirs").mget(["key"]) == [b"b" * 4_000_000]
    with TieredByteStore.local(tmp_path / "ours") as store:
        assert store.mget(["key"]) == [b"a" * 1000]


def _reads_beside_a_writer(writer, reader, times=200):
    """Reads of a key, 2 MB long, that another thread keeps writing; how many were torn."""
    size = 2_000_000
    values = [bytes([letter]) * size for letter in b"abcd"]
    writer.mset([("key", values[0])])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for value in values:
                writer.mset([("key", value)])

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        torn = 0
        for _ in range(times):
            (value,) = reader.mget(["key"])
            if value is not None and value not in values:
                torn += 1
        return torn
    finally:
        stop.set()
        thread.join(30)


def test_reads_beside_a_writer(tmp_path):
    theirs = LocalFileStore(tmp_path / "theirs")
    assert _reads_beside_a_writer(theirs, theirs) > 0
    with (
        TieredByteStore(TieredCache([DiskTier(tmp_path / "ours")])) as writer,
        TieredByteStore(TieredCache([DiskTier(tmp_path / "ours")])) as reader,
    ):
        assert _reads_beside_a_writer(writer, reader) == 0


def test_a_file_a_key(tmp_path, ours):
    theirs = LocalFileStore(tmp_path / "theirs")
    for store in (theirs, ours):
        store.mset([(f"{n}", b"v") for n in range(500)])
    assert len(list((tmp_path / "theirs").iterdir())) == 500
    assert len([path for path in (tmp_path / "ours").rglob("*") if path.is_file()]) <= 6


# -- RedisStore ------------------------------------------------------------------------------------


def _over(valkey, namespace):
    return TieredByteStore(TieredCache([RedisTier(valkey.url, deadline=20)], namespace=namespace))


def test_a_prefix_that_is_a_pattern(client, valkey):
    theirs = RedisStore(client=client, namespace="theirs")
    with _over(valkey, "ours") as ours:
        for store in (theirs, ours):
            store.mset([("ab", b"v"), ("a*c", b"v"), ("abc", b"v")])
        assert list(theirs.yield_keys(prefix="a")) == []  # not even a prefix
        assert sorted(theirs.yield_keys(prefix="a*c")) == ["a*c", "abc"]
        assert sorted(ours.yield_keys(prefix="a")) == ["a*c", "ab", "abc"]
        assert list(ours.yield_keys(prefix="a*c")) == ["a*c"]


def test_an_empty_batch(client, valkey):
    theirs = RedisStore(client=client)
    with pytest.raises(redis.ResponseError):
        theirs.mdelete([])
    with _over(valkey, "ours") as ours:
        ours.mdelete([])
        ours.mset([])
        assert ours.mget([]) == []


def test_namespaces_that_run_together(client, valkey):
    RedisStore(client=client, namespace="a").mset([("b/c", b"1")])
    assert RedisStore(client=client, namespace="a/b").mget(["c"]) == [b"1"]
    assert sorted(RedisStore(client=client).yield_keys()) == ["a/b/c"]
    with _over(valkey, "a") as one, _over(valkey, "a/b") as two, _over(valkey, "") as none:
        one.mset([("b/c", b"1")])
        assert two.mget(["c"]) == [None]
        assert list(none.yield_keys()) == []


# -- SQLStore --------------------------------------------------------------------------------------


def test_either_blocking_or_async(tmp_path):
    theirs = SQLStore(namespace="n", db_url=f"sqlite:///{tmp_path}/theirs.db")
    theirs.create_schema()
    theirs.mset([("a", b"1")])
    with pytest.raises((ValueError, AssertionError)):
        asyncio.run(theirs.amget(["a"]))
    theirs.engine.dispose()
    with TieredByteStore(TieredCache([SQLTier(f"sqlite:///{tmp_path}/ours.db", deadline=20)])) as ours:
        ours.mset([("a", b"1")])
        assert asyncio.run(ours.amget(["a"])) == [b"1"]


def test_a_listing_that_reads_every_value(tmp_path):
    def listing(engine, open_store, table):
        """The SELECTs from ``table`` of a listing."""
        statements = []
        event.listen(engine, "connect", lambda raw, _: raw.set_trace_callback(statements.append))
        store = open_store(engine)
        store.mset([("a", b"1")])
        statements.clear()
        assert list(store.yield_keys()) == ["a"]
        engine.dispose()
        return [text for text in statements if re.match(rf"SELECT .*FROM \"?{table}\"? ", text, re.DOTALL)]

    def theirs(engine):
        store = SQLStore(namespace="n", engine=engine)
        store.create_schema()
        return store

    engine = create_engine(f"sqlite:///{tmp_path}/theirs.db")
    (statement,) = listing(engine, theirs, "langchain_key_value_stores")
    assert ".value" in statement.partition("FROM")[0]

    engine = create_engine(f"sqlite:///{tmp_path}/ours.db")
    with TieredByteStore(TieredCache([SQLTier(engine, deadline=20)])) as store:
        found = listing(engine, lambda _: store, "tiercache")
    assert found
    assert not any("value" in statement.partition("FROM")[0] for statement in found)


def test_the_empty_store_is_true(ours):
    # What CacheBackedEmbeddings asks before it looks a query up.
    assert ours
    with TieredByteStore(TieredCache([MemoryTier()])) as store:
        assert store
