"""`tiercache migrate`: out of stores that LangChain filled, into what a program then finds there."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest
import redis
from counting_model import CountingModel
from langchain_classic.storage import LocalFileStore
from langchain_sources import Model, RedisStore, SQLiteCache, SQLStore, fill, texts
from shell import COLOUR, in_a_terminal, run
from sqlalchemy import create_engine

from tiercache import TieredCache
from tiercache.integrations.langchain import CachedEmbeddings, EmbeddingStore, LLMCache, TieredByteStore


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(
        'namespace = "app"\n[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "disk"\ndirectory = "new"\n'
    )
    return path


def migrate(config, *arguments, code=0):
    done = run("migrate", *arguments, "-c", config, "--json")
    assert (done.code, done.err) == (code, ""), done.err
    report = json.loads(done.out)
    return report["copied"], report["already_there"], report["skipped_count"]


def test_files_become_bytes_vectors_or_embeddings(config, tmp_path):
    vectors = fill(LocalFileStore(tmp_path / "old"), 20)
    folder = tmp_path / "old"
    assert migrate(config, "langchain-files", folder) == (20, 0, 0)
    assert migrate(config, "langchain-files", folder) == (0, 20, 0)
    common = ("--prefix", "ada-", "--key-encoder", "sha256", "--model", "ada")
    assert migrate(config, "langchain-files", folder, "--as", "vectors", *common) == (20, 0, 0)
    assert migrate(config, "langchain-files", folder, "--as", "embeddings", *common) == (20, 0, 0)
    assert migrate(config, "langchain-files", folder, "--as", "embeddings", "--queries", *common) == (
        20,
        0,
        0,
    )
    model = Model()
    with TieredCache.from_config(config) as cache:
        assert len(list(TieredByteStore(cache).yield_keys())) == 20
        store = EmbeddingStore(cache, namespace="ada", key_encoder="sha256")
        assert store.mget(texts(20)) == vectors
        embeddings = CachedEmbeddings(model, cache, namespace="ada", key_encoder="sha256")
        assert embeddings.embed_documents(texts(20)) == vectors
        assert embeddings.embed_query(texts(1)[0]) == vectors[0]
    assert model.calls == 0


def test_servers_are_named_by_variables(config, valkey, postgres_url, monkeypatch):
    client = redis.Redis.from_url(valkey.url)
    fill(RedisStore(client=client, namespace="old"), 5)
    client.close()
    monkeypatch.setenv("OLD_REDIS", valkey.url)
    assert migrate(config, "langchain-redis", "${OLD_REDIS}", "--store-namespace", "old") == (5, 0, 0)
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"))
    monkeypatch.setenv("OLD_SQL", str(engine.url))
    store = SQLStore(namespace="old", engine=engine)
    try:
        store.create_schema()
        store.mset([("a", b"1"), ("b", b"2")])
        arguments = ("langchain-sql", "${OLD_SQL}", "--store-namespace", "old", "-n", "sql")
        assert migrate(config, *arguments) == (2, 0, 0)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE langchain_key_value_stores")
        engine.dispose()
    with TieredCache.from_config(config) as cache:
        assert len(list(cache.keys())) == 5
        assert TieredByteStore(cache.view("sql")).mget(["a", "b"]) == [b"1", b"2"]


def test_answers_of_models_are_hits(config, tmp_path):
    old = SQLiteCache(str(tmp_path / "langchain.db"))
    answer = CountingModel(cache=old).invoke("a question")
    old.engine.dispose()
    done = run("migrate", "langchain-sqlite-llm", tmp_path / "langchain.db", "-c", config)
    assert (done.code, done.err) == (0, "")
    assert "copied         1" in done.out
    with TieredCache.from_config(config) as cache:
        model = CountingModel(cache=LLMCache(cache))
        assert model.invoke("a question").content == answer.content
        assert model.asked == []


def test_a_terminal_shows_progress_and_a_pipe_does_not(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a long path would leave no room for the bar
    fill(LocalFileStore("old"), 5)
    code, shown = in_a_terminal("migrate", "langchain-files", "old", "-c", config)
    assert code == 0
    assert "5/5" in shown
    assert COLOUR.search(shown)
    assert run("migrate", "langchain-files", "old", "-c", config).err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["langchain-files", "nowhere"], 1, "nowhere is no directory"),
        (["langchain-files", ".", "--as", "vectors"], 2, "--as vectors needs --model"),
        (["langchain-files", ".", "--model", "ada"], 2, "are for --as vectors"),
        (["langchain-files", ".", "--queries"], 2, "--queries is for --as embeddings"),
        (["langchain-files", ".", "--as", "gold"], 2, "'gold' is not one of"),
        (["langchain-redis", "${NO_SUCH_VARIABLE}"], 2, "the variable NO_SUCH_VARIABLE is not set"),
        (
            ["langchain-redis", "redis://u:swordfish@127.0.0.1:1/0"],
            1,
            "tiercache: RedisStore redis://u:***@127.0.0.1:1/0 cannot be read: ",
        ),
        (
            ["langchain-sql", "postgresql+psycopg://u:swordfish@127.0.0.1:1/d", "--store-namespace", "x"],
            1,
            "tiercache: SQLStore postgresql+psycopg://u:***@127.0.0.1:1/d cannot be read: connection ",
        ),
        (
            ["langchain-sql", "sqlite:///tiercache.toml", "--store-namespace", "x"],
            1,
            "tiercache: SQLStore sqlite:///tiercache.toml cannot be read: file is not a database",
        ),
        (["langchain-sql", "sqlite:///nowhere.db", "--store-namespace", "x"], 1, "nowhere.db is no file"),
        (["langchain-sql", "sqlite:///nowhere.db"], 2, "Missing option '--store-namespace'"),
        (["langchain-sql", "swordfish", "--store-namespace", "x"], 1, "not an SQLAlchemy URL"),
        (["langchain-sqlite-llm", "nowhere.db"], 1, "nowhere.db is no file"),
        (["langchain-sqlite-llm", "u@other.db"], 1, "SQLiteCache u@other.db cannot be read: no such column"),
    ],
)
def test_what_is_wrong_is_told_in_a_line_or_two(config, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    with closing(
        sqlite3.connect("u@other.db")
    ) as other:  # it has that table, and not as SQLiteCache makes it
        columns = "prompt, llm, idx, response, PRIMARY KEY (prompt, llm, idx)"
        other.execute(f"CREATE TABLE full_llm_cache ({columns}) WITHOUT ROWID")
    done = run("migrate", *arguments, "-c", config)
    assert (done.code, done.raw) == (code, b"")
    assert message in done.err
    assert len(done.err.splitlines()) <= 2
    assert "swordfish" not in done.err
    assert "--debug" not in done.err  # for what nobody thought of


def test_what_is_skipped_is_told_in_the_words_of_a_shell(config, tmp_path):
    old = tmp_path / "old"
    fill(LocalFileStore(old), 3)  # their digests are sha256's
    (old / "other-key").write_text("[1.0]")
    (old / "ada-key").write_text("[1.0]")
    arguments = (
        "langchain-files",
        old,
        "--as",
        "vectors",
        "--model",
        "ada",
        "--prefix",
        "ada-",
        "-c",
        config,
    )
    done = run("migrate", *arguments, "--key-encoder", "sha256")
    assert (done.code, done.err) == (1, "tiercache: 1 key skipped, for the reasons above\n")
    assert "no digest after the prefix (--any-key takes it)" in done.out
    done = run("migrate", *arguments, "--key-encoder", "blake2b", "--json")
    assert done.code == 1
    reasons = {one["reason"]: one["count"] for one in json.loads(done.out)["skipped"]}
    [(reason, count)] = [item for item in reasons.items() if item[0].startswith("made by")]
    assert (reason.endswith(": give it --key-encoder sha256"), count) == (True, 3)
    (old / "ada-key").unlink()
    done = run("migrate", *arguments, "--key-encoder", "sha256")
    assert (done.code, done.err) == (0, "")  # --prefix is what leaves the other one out


def test_a_cache_that_is_too_small_is_told(config, tmp_path):
    fill(LocalFileStore(tmp_path / "old"), 20)
    config.write_text(f"{config.read_text()}max_entries = 5\n")
    done = run("migrate", "langchain-files", tmp_path / "old", "-c", config)
    assert (done.code, done.err) == (1, "tiercache: the lowest tier is too small for all of them\n")


def test_bytes_go_into_no_cache_of_something_else(config, tmp_path):
    (tmp_path / "old").mkdir()
    config.write_text(f'codec = "json"\n{config.read_text()}')
    done = run("migrate", "langchain-files", tmp_path / "old", "-c", config)
    assert done.code == 1
    assert "a byte store keeps bytes as they are" in done.err
