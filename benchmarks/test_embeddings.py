"""What a cache of embeddings costs beside the model: `CachedEmbeddings` over memory and disk, and LangChain's
``CacheBackedEmbeddings`` over each store that people give it. The model gives vectors that are ready.

What is given back is freed between the turns: millions of floats are the caller's. There our cache is closed,
too, which brings home what is left of its disk's log: disk-mset-steady tells what all of that takes. The
command beside this, ``langchain_embeddings.py``, makes each state for real, with a process for each, and
counts bytes and calls.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_classic.storage import LocalFileStore
from langchain_community.storage import RedisStore, SQLStore
from langchain_core.embeddings import Embeddings
from langchain_core.stores import ByteStore, InMemoryByteStore
from servers.valkey import running

from benchmarks.contest import Contest
from benchmarks.langchain_embeddings import DIMENSIONS, TEXTS, Model, NoModel, make_texts, ours
from benchmarks.test_sql import tuned
from tiercache.integrations.langchain import CachedEmbeddings

#: A turn of some of the peers takes seconds.
ROUNDS = 5
#: A store with nothing in it, in a folder that nobody else has.
Maker = Callable[[Path], ByteStore]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return make_texts()


@pytest.fixture(scope="module")
def model(texts: list[str]) -> Model:
    matrix = np.random.default_rng(1).standard_normal((TEXTS, DIMENSIONS)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    return Model(dict(zip(texts, matrix.tolist(), strict=True)))


@pytest.fixture(scope="module")
def stores() -> Iterator[dict[str, Maker]]:
    """What ``CacheBackedEmbeddings`` is given; the first is what the figures to reach are told for."""

    def database(folder: Path) -> ByteStore:
        store = SQLStore(namespace="n", db_url=f"sqlite:///{folder}/db")
        store.create_schema()
        return store

    def tuned_database(folder: Path) -> ByteStore:
        """With the pragmas of a SQL tier: see the contests of these."""
        store = SQLStore(namespace="n", engine=tuned(f"sqlite:///{folder}/db"))
        store.create_schema()
        return store

    with running() as server, server.client() as client:

        def redis(_folder: Path) -> ByteStore:
            client.flushdb()
            return RedisStore(client=client)

        yield {
            "LocalFileStore": lambda folder: LocalFileStore(folder / "files"),
            "InMemoryByteStore": lambda _folder: InMemoryByteStore(),
            "RedisStore": redis,
            "SQLStore": database,
            "SQLStore, WAL": tuned_database,
        }


def backed(model: Embeddings, store: ByteStore) -> CacheBackedEmbeddings:
    return CacheBackedEmbeddings.from_bytes_store(
        model, store, namespace="model", query_embedding_cache=True, key_encoder="sha256"
    )


class Way:
    """One way to embed all texts. ``make`` gives the embeddings of a turn, and what closes them."""

    def __init__(
        self,
        make: Callable[[], tuple[Any, Callable[[], Any]]],
        texts: list[str],
        verb: str = "embed_documents",
    ) -> None:
        self._make = make
        self._texts = texts
        self._verb = verb
        self._close: Callable[[], Any] = nothing
        self._kept: Any = None

    def prepare(self) -> tuple[Any]:
        embeddings, self._close = self._make()
        return (embeddings,)

    def embed(self, embeddings: Any) -> None:
        self._kept = getattr(embeddings, self._verb)(self._texts)

    def close(self) -> None:
        self._kept = None
        self._close()
        self._close = nothing


def nothing() -> None:
    """What closes that which need not be closed."""


def emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def cached(model: Embeddings, folder: Path) -> tuple[CachedEmbeddings, Callable[[], Any]]:
    embeddings, cache = ours(model, folder)
    return embeddings, cache.close


def held(hold: Any, contest: Contest, ways: dict[str, Way]) -> None:
    for name, way in ways.items():
        contest.add(name, way.embed, prepare=way.prepare, settle=way.close)
    hold(contest)
    for way in ways.values():
        way.close()


#: Of each store a tenth of the texts, whose turns together take a minute else.
MANY = pytest.mark.parametrize("number", [pytest.param(TEXTS, marks=pytest.mark.slow), TEXTS // 10])


def case(state: str, title: str, number: int) -> Contest:
    """The figures to reach are those of all texts, beside LangChain's own default."""
    name = f"embeddings-{state}" + ("" if number == TEXTS else f"-by-{number}")
    title = f"{number:,} texts, {DIMENSIONS:,} numbers each: {title}"
    return Contest(name, title, size=number, thing="text", rounds=ROUNDS)


def asked(stores: dict[str, Maker], number: int, contest: Contest) -> list[str]:
    """The stores that take part; why the others do not is told."""
    part = list(stores)[: 1 if number == TEXTS else None]
    for name in [each for each in stores if each not in part]:
        contest.absent(name, f"takes too long with so many texts: see {contest.name}-by-{TEXTS // 10}")
    return part


@MANY
def test_cold(
    hold: Any, model: Model, stores: dict[str, Maker], texts: list[str], tmp_path: Path, number: int
) -> None:
    some = texts[:number]
    contest = case("cold", "nothing is cached", number)
    ways = {"tiercache": Way(lambda: cached(model, emptied(tmp_path / "ours")), some)}
    for name in asked(stores, number, contest):
        make, folder = stores[name], tmp_path / name
        ways[name] = Way(lambda make=make, at=folder: (backed(model, make(emptied(at))), nothing), some)
    if number == TEXTS:
        contest.times_faster(16, than="LocalFileStore")
    held(hold, contest, ways)


@MANY
def test_warm(
    hold: Any, model: Model, stores: dict[str, Maker], texts: list[str], tmp_path: Path, number: int
) -> None:
    """From disk: the tiers are opened anew for each turn, with nothing in memory."""
    some = texts[:number]
    embeddings, cache = ours(model, tmp_path / "ours")
    embeddings.embed_documents(some)
    contest = case("warm", "all are cached", number)
    ways = {
        "tiercache": Way(lambda: (embeddings, nothing), some),
        "tiercache, embed_array": Way(lambda: (embeddings, nothing), some, "embed_array"),
        "tiercache, from disk": Way(lambda: cached(NoModel(), tmp_path / "ours"), some),
    }
    for name in asked(stores, number, contest):
        peer = backed(model, stores[name](emptied(tmp_path / name)))
        peer.embed_documents(some)
        ways[name] = Way(lambda peer=peer: (peer, nothing), some)
    if number == TEXTS:
        contest.times_faster(40, than="LocalFileStore")
        contest.times_faster(150, than="LocalFileStore", who="tiercache, embed_array")
        contest.times_faster(8, than="LocalFileStore", who="tiercache, from disk")
    with cache:
        held(hold, contest, ways)
