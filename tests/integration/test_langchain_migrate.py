"""Migrations out of stores that LangChain itself has filled: what arrives, and that nothing else changes."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import redis
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_sources import DIGESTS, Model, RedisStore, SQLStore, bytes_of, fill, texts
from selections import usually
from sqlalchemy import create_engine

from tiercache import ConfigError, DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain import TieredByteStore
from tiercache.integrations.langchain.embedding_store import EmbeddingStore
from tiercache.integrations.langchain.embeddings import CachedEmbeddings
from tiercache.integrations.langchain.migrate import from_local_files, from_redis, from_sql
from tiercache.integrations.langchain.migrate._sql import open_read_only

COUNT = 45  # more than a few batches


@pytest.fixture
def cache(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "new")]) as cache:
        yield cache


@pytest.fixture
def old(tmp_path):
    return LocalFileStore(tmp_path / "old")


def reasons(report):
    return {item.reason: item.count for item in report.skipped}


# -- a folder of files -----------------------------------------------------------------------------


@pytest.mark.parametrize("digest", DIGESTS)
def test_vectors_are_hits_under_the_same_digest(digest, old, cache, tmp_path):
    vectors = fill(old, COUNT, digest=digest)
    before = bytes_of(tmp_path / "old")
    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder=digest)
    report = from_local_files(tmp_path / "old", cached, prefix="ada-", batch_size=10, progress=False)
    assert (report.copied, report.already_there, report.skipped) == (COUNT, 0, ())
    assert cached.embed_documents(texts(COUNT)) == vectors
    assert model.calls == 0
    assert bytes_of(tmp_path / "old") == before

    again = from_local_files(tmp_path / "old", cached, prefix="ada-", progress=False)
    assert (again.copied, again.already_there, again.skipped) == (0, COUNT, ())


def test_vectors_take_a_fraction_of_the_room(old, cache, tmp_path):
    fill(old, 120, length=1536)
    store = EmbeddingStore(cache, namespace="ada", key_encoder="sha256")
    from_local_files(tmp_path / "old", store, prefix="ada-", progress=False)
    cache.close()
    before = sum(map(len, bytes_of(tmp_path / "old").values()))
    assert (tmp_path / "new" / "cache.db").stat().st_size < 0.4 * before


def test_a_store_of_vectors_for_langchains_own_cache(old, cache, tmp_path):
    vectors = fill(old, COUNT)
    model = Model()
    store = EmbeddingStore(cache, namespace="ada", key_encoder="sha256")
    assert from_local_files(tmp_path / "old", store, prefix="ada-", progress=False).copied == COUNT
    assert CacheBackedEmbeddings(model, store).embed_documents(texts(COUNT)) == vectors
    assert model.calls == 0


def test_bytes_stay_as_they_are(old, cache, tmp_path):
    vectors = fill(old, COUNT)
    old.mset([("folder/file", bytes(range(256))), ("empty", b"")])
    store = TieredByteStore(cache)
    report = from_local_files(tmp_path / "old", store, batch_size=7, progress=False)
    assert (report.copied, report.skipped) == (COUNT + 2, ())
    keys = sorted(old.yield_keys())
    assert sorted(store.yield_keys()) == keys
    assert store.mget(keys) == old.mget(keys)
    # Code that goes on with LangChain's own cache only changes its store.
    model = Model()
    cached = CacheBackedEmbeddings.from_bytes_store(model, store, namespace="ada-", key_encoder="sha256")
    assert cached.embed_documents(texts(COUNT)) == vectors
    assert model.calls == 0


def test_bytes_below_a_prefix(old, cache, tmp_path):
    old.mset([("a/1", b"1"), ("a/2", b"2"), ("ab", b"3"), ("b/1", b"4")])
    store = TieredByteStore(cache)
    report = from_local_files(tmp_path / "old", store, prefix="a", progress=False)
    assert sorted(store.yield_keys()) == ["a/1", "a/2", "ab"]
    assert reasons(report) == {"another prefix": 1}


def test_vectors_of_queries_are_apart(tmp_path, cache):
    old = LocalFileStore(tmp_path / "old")
    langchains = CacheBackedEmbeddings.from_bytes_store(
        Model(),
        LocalFileStore(tmp_path / "documents"),
        namespace="ada-",
        key_encoder="sha256",
        query_embedding_cache=old,
    )
    vector = langchains.embed_query("a question")
    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
    report = from_local_files(tmp_path / "old", cached, prefix="ada-", queries=True, progress=False)
    assert report.copied == 1
    assert cached.embed_query("a question") == vector
    assert model.calls == 0
    assert cached.embed_documents(["a question"]) != [vector]


def test_what_cannot_be_taken_is_skipped_and_told(old, cache, tmp_path):
    fill(old, COUNT)
    fill(old, 3, namespace="ada-2-")  # LangChain's namespaces run together: "ada-" is a prefix of these
    fill(old, 2, namespace="other-")
    fill(old, 1, namespace="ada-", digest="sha512")
    names = [f"ada-{n:064x}" for n in range(7)]
    broken = [b"", b'[0.5, "text"]', b"[0.5, tr", b'{"a": 1}', b"[]", b"[true, false]", b"[1, 2, 3, 4, 5]"]
    old.mset(list(zip(names, broken, strict=True)))
    folder = tmp_path / "old"
    (folder / "a name with spaces").write_bytes(b"theirs")
    (folder / "link").symlink_to(folder / names[0])
    (folder / "folder link").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    before = bytes_of(folder)

    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
    report = from_local_files(folder, cached, prefix="ada-", progress=False)
    expected = {
        "no digest after the prefix (any_key=True takes it)": 3,
        "another prefix": 2,
        'made by blake2b or sha512, the target looks for sha256: give it key_encoder="blake2b" or '
        'key_encoder="sha512"': 1,
        "ragged: not of 8 numbers, as the others are": 1,
        "corrupt JSON": 2,
        "no vector": 4,
        "no key of a LocalFileStore": 1,
        "a symbolic link": 2,
        "no regular file": 1,
    }
    assert reasons(report) == expected
    assert (report.copied, report.skipped_count) == (COUNT, sum(expected.values()))
    corrupt = next(item for item in report.skipped if item.reason == "corrupt JSON")
    assert sorted(corrupt.keys) == [names[0], names[2]]
    cached.embed_documents(texts(COUNT))
    assert model.calls == 0
    assert bytes_of(folder) == before

    # Started again it finds nothing to do; the ragged one, now the only vector left, is no rule for itself.
    again = from_local_files(folder, cached, prefix="ada-", progress=False)
    assert (again.copied, again.already_there) == (0, COUNT)
    assert reasons(again) == expected


@pytest.mark.parametrize(
    "kind", usually({EmbeddingStore}, [CachedEmbeddings, EmbeddingStore]), ids=["embeddings", "store"]
)
@pytest.mark.parametrize("wanted", [*DIGESTS, None])
@pytest.mark.parametrize("digest", DIGESTS)
def test_digests_that_the_target_never_looks_for_are_no_success(digest, wanted, kind, old, cache, tmp_path):
    fill(old, 3, digest=digest)
    options = {"model": Model()} if kind is CachedEmbeddings else {}
    target = kind(cache=cache, namespace="ada", key_encoder=wanted, **options)
    report = from_local_files(tmp_path / "old", target, prefix="ada-", progress=False)
    if digest == wanted:
        assert (report.copied, report.skipped) == (3, ())
        return
    if {digest, wanted} == {"blake2b", "sha512"}:
        assert report.copied == 3  # of one length: nobody can tell them apart
        return
    assert report.copied == 0
    ((reason, count),) = reasons(report).items()
    assert count == 3
    assert re.match(r"made by .*\b" + digest, reason)
    assert f"looks for {wanted or 'digests of its own'}:" in reason
    assert f'key_encoder="{digest}"' in reason
    # Whoever knows better says so; and what a function of one's own looks for is not guessed at.
    taken = from_local_files(tmp_path / "old", target, prefix="ada-", any_key=True, progress=False)
    assert taken.copied == 3
    own = EmbeddingStore(cache, namespace="own", key_encoder=lambda text: text)
    assert from_local_files(tmp_path / "old", own, prefix="ada-", progress=False).copied == 3


def test_keys_of_a_function_of_ones_own(old, cache, tmp_path):
    langchains = CacheBackedEmbeddings.from_bytes_store(Model(), old, key_encoder=lambda text: text[-2:])
    vectors = langchains.embed_documents(texts(30)[20:])
    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder=lambda text: text[-2:])
    refused = from_local_files(tmp_path / "old", cached, progress=False)
    assert refused.copied == 0
    assert from_local_files(tmp_path / "old", cached, any_key=True, progress=False).copied == 10
    assert cached.embed_documents(texts(30)[20:]) == vectors
    assert model.calls == 0


def test_files_that_change_or_cannot_be_read(old, cache, tmp_path):
    old.mset([(f"{n}", b"v") for n in range(4)])
    store = TieredByteStore(cache)
    mget = cache.mget

    def interfere(keys):  # between the listing and the reading
        (tmp_path / "old" / "1").unlink(missing_ok=True)
        if (tmp_path / "old" / "2").is_file():
            (tmp_path / "old" / "2").unlink()
            (tmp_path / "old" / "2").mkdir()
        return mget(keys)

    cache.mget = interfere
    report = from_local_files(tmp_path / "old", store, progress=False)
    assert report.copied == 2
    assert reasons(report) == {"gone meanwhile": 1, "the file cannot be read (IsADirectoryError)": 1}


def test_a_key_that_another_writer_stored_is_kept(old, cache, tmp_path):
    old.mset([("a", b"old"), ("b", b"old")])
    store = TieredByteStore(cache)
    store.mset([("a", b"new")])
    report = from_local_files(tmp_path / "old", store, progress=False)
    assert (report.copied, report.already_there) == (1, 1)
    assert store.mget(["a", "b"]) == [b"new", b"old"]


# -- Redis -----------------------------------------------------------------------------------------


@pytest.fixture
def client(valkey):
    valkey.flush()
    with valkey.client() as client:
        yield client


def test_a_redis_store(client, valkey, cache):
    vectors = fill(RedisStore(client=client, namespace="app"), COUNT)
    fill(RedisStore(client=client, namespace="app2"), 3)
    fill(RedisStore(client=client), 2)
    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
    client.close = lambda: pytest.fail("what was given is its owner's to close")
    for source in (valkey.url, client):
        report = from_redis(source, cached, namespace="app", prefix="ada-", batch_size=10, progress=False)
        assert report.copied + report.already_there == COUNT
        assert report.skipped == ()
    assert cached.embed_documents(texts(COUNT)) == vectors
    assert model.calls == 0
    del client.close


def test_redis_gets_two_commands_alone(client, valkey, cache):
    fill(RedisStore(client=client, namespace="app"), COUNT)
    client.config_resetstat()
    with redis.Redis(port=valkey.port) as mine:
        from_redis(mine, TieredByteStore(cache), namespace="app", progress=True)
    commands = {name.removeprefix("cmdstat_") for name in client.info("commandstats")}
    assert {"scan", "mget"} <= commands
    assert commands - {"hello", "client|setinfo", "config|resetstat", "info"} == {"scan", "mget"}


def test_a_namespace_of_redis_is_text_and_no_pattern(client, cache):
    store = TieredByteStore(cache)
    for name in ("a*", "ab", "a[b]", "a\\", "a?"):
        RedisStore(client=client, namespace=name).mset([("key", name.encode())])
    for name in ("a*", "a[b]", "a\\", "a?"):
        store.cache.clear()
        assert from_redis(client, store, namespace=name, progress=False).copied == 1
        assert store.mget(["key"]) == [name.encode()]


def test_what_lies_in_redis_beside_a_store(client, cache):
    client.set(b"\xff\xfe", b"binary key")
    client.rpush("a list", "1", "2")
    client.set("sch\u00f6n", b"\x00value")
    store = TieredByteStore(cache)
    report = from_redis(client, store, progress=False)
    assert store.mget(["sch\u00f6n"]) == [b"\x00value"]
    assert report.copied == 1
    assert reasons(report) == {"no key of a RedisStore": 1, "no string, or gone meanwhile": 1}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("http://user:secret@host", "no URL of a Redis server"),
        ("secret", "no URL of a Redis server"),
        ("redis://:secret@host/0?foo=1", "no URL of a Redis server: .* unexpected keyword argument 'foo'"),
        (7, "no Redis URL and no redis.Redis client"),
        (redis.Redis(decode_responses=True), "decode_responses=False"),
        ("redis://user:secret@host?decode_responses=true", "decode_responses=False"),
    ],
    ids=["url", "word", "option", "type", "decoding", "decoding url"],
)
def test_what_is_no_redis(source, message, cache):
    with pytest.raises(ConfigError, match=message) as caught:
        from_redis(source, TieredByteStore(cache))
    assert "secret" not in str(caught.value)


# -- SQL -------------------------------------------------------------------------------------------


def test_an_sql_store(cache, tmp_path):
    path = tmp_path / "old's 100%.db"
    store = SQLStore(namespace="one", db_url=f"sqlite:///{path}")
    store.create_schema()
    vectors = fill(store, COUNT)
    fill(SQLStore(namespace="one2", engine=store.engine), 3, namespace="theirs-")
    store.engine.dispose()
    before = bytes_of(path)
    model = Model()
    cached = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
    options = {"namespace": "one", "prefix": "ada-", "batch_size": 10}
    report = from_sql(f"sqlite:///{path}", cached, progress=False, **options)
    assert (report.copied, report.skipped) == (COUNT, ())
    assert cached.embed_documents(texts(COUNT)) == vectors
    assert model.calls == 0
    assert bytes_of(path) == before
    assert {item.name for item in tmp_path.iterdir()} == {"new", path.name}  # no journal beside it


def test_a_row_that_holds_no_bytes(cache, tmp_path):
    store = SQLStore(namespace="one", db_url=f"sqlite:///{tmp_path}/old.db")
    store.create_schema()
    store.mset([("a", b"1")])
    with store.engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO langchain_key_value_stores VALUES ('one', 'b', 'text')")
    store.engine.dispose()
    report = from_sql(f"sqlite:///{tmp_path}/old.db", TieredByteStore(cache), namespace="one", progress=False)
    assert report.copied == 1
    assert reasons(report) == {"no bytes": 1}


def test_a_file_of_sqlite_is_not_locked_meanwhile(cache, tmp_path):
    store = SQLStore(namespace="one", db_url=f"sqlite:///{tmp_path}/old.db")
    store.create_schema()
    store.mset([(f"key {n}", b"v") for n in range(30)])

    seen = []
    target = TieredByteStore(cache)
    mset = cache.mset

    def write_too(items, **options):
        store.mset([(f"new {len(seen)}", b"w")])
        seen.append(1)
        return mset(items, **options)

    cache.mset = write_too
    report = from_sql(f"sqlite:///{tmp_path}/old.db", target, namespace="one", batch_size=10, progress=False)
    assert report.copied >= 30
    assert len(seen) >= 3
    store.engine.dispose()


def test_an_sql_store_on_a_server(cache, postgres_url):
    url = postgres_url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    store = SQLStore(namespace="one", engine=engine)
    store.create_schema()
    try:
        vectors = fill(store, COUNT)
        cached = CachedEmbeddings(Model(), cache, namespace="ada", key_encoder="sha256")
        report = from_sql(url, cached, namespace="one", prefix="ada-", batch_size=10, progress=False)
        assert (report.copied, report.skipped) == (COUNT, ())
        assert cached.embed_documents(texts(COUNT)) == vectors
        assert cached.model.calls == 0
    finally:
        with engine.begin() as connection:  # the store's own drop() leaves a connection open
            connection.exec_driver_sql("DROP TABLE langchain_key_value_stores")
        engine.dispose()


def test_a_file_of_sqlite_cannot_be_written(tmp_path):
    path = tmp_path / "a?b#c%20.db"  # letters that mean something in the URI that it is opened by
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")
    with closing(open_read_only(path)) as connection:
        assert connection.execute("SELECT * FROM t").fetchall() == []
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("INSERT INTO t VALUES (1)")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///absent.db", "absent.db is no file"),
        ("sqlite:///empty.db", "no table langchain_key_value_stores"),
        ("sqlite+aiosqlite:///empty.db", "blocking"),
        ("sqlite://", "no file"),
        ("not a url", "not an SQLAlchemy URL"),
        ("nobase://user:secret@host/x", "not an SQLAlchemy URL"),
        ("mysql://user:secret@host/x", r"needs the package 'MySQLdb'.*, or write mysql\+pymysql://$"),
        ("oracle://user:secret@host/x", r"needs the package 'oracledb', which is not installed; install it$"),
    ],
)
def test_what_is_no_sql_store(url, message, cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "MySQLdb", None)
    monkeypatch.setitem(sys.modules, "oracledb", None)
    Path("empty.db").touch()
    with pytest.raises(ConfigError, match=message) as caught:
        from_sql(url, TieredByteStore(cache), namespace="one")
    assert "secret" not in str(caught.value)
    assert not Path("absent.db").exists()


# -- arguments -------------------------------------------------------------------------------------


def test_wrong_arguments(old, cache, tmp_path):
    old.mset([("a", b"1")])
    folder, store = tmp_path / "old", TieredByteStore(cache)
    with pytest.raises(ConfigError, match="is no directory"):
        from_local_files(tmp_path / "absent", store)
    with pytest.raises(ConfigError, match="takes no entries"):
        from_local_files(folder, cache)
    with pytest.raises(ConfigError, match="queries=True"):
        from_local_files(folder, store, queries=True)
    with pytest.raises(ConfigError, match="prefix"):
        from_local_files(folder, store, prefix=None)
    for size in (0, -1, True, "10", None):
        with pytest.raises(ConfigError, match="batch_size"):
            from_local_files(folder, store, batch_size=size)
    assert list(store.yield_keys()) == []


def test_an_import_of_it_brings_no_source_along():
    code = "import tiercache.integrations.langchain.migrate, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"langchain_classic", "langchain_community", "redis", "sqlalchemy", "rich", "orjson"}
