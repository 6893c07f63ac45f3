"""A disk tier alone, beside SQLite itself, diskcache, LMDB and LangChain's file store. New values at each
write: SQLite writes no page that does not change. A tier's entries have an end of life, and the others' none.

A tier brings its log home behind its callers, and is waited for between the turns; SQLite and diskcache do it
within a write. So a write tells what its caller waits for; disk-mset-steady tells what all of it takes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import diskcache
import pytest
from langchain_classic.storage import LocalFileStore

from benchmarks.contest import Contest
from benchmarks.raw_sqlite import Table
from benchmarks.settled import settled
from tiercache import DiskTier, TieredCache

Batch = dict[str, bytes]


class Store(NamedTuple):
    """What a peer can do with a batch."""

    put: Callable[[Batch], Any]
    get: Callable[[list[str]], Any]
    close: Callable[[], Any]
    settle: Callable[[], Any] | None = None


def tiercache(folder: Path) -> Store:
    tier = DiskTier(folder / "tiercache")
    cache = TieredCache([tier], ttl="1h")
    return Store(cache.mset, cache.mget, cache.close, settled(cache, tier))


def raw_sqlite(folder: Path) -> Store:
    table = Table(folder / "raw.db")
    return Store(table.put, table.get, table.close)


def looped(folder: Path) -> Store:
    cache = diskcache.Cache(str(folder / "looped"))

    def put(batch: Batch) -> None:
        for key, value in batch.items():
            cache.set(key, value)

    return Store(put, lambda keys: [cache.get(key) for key in keys], cache.close)


def transacted(folder: Path) -> Store:
    cache = diskcache.Cache(str(folder / "transacted"))

    def put(batch: Batch) -> None:
        with cache.transact():
            for key, value in batch.items():
                cache.set(key, value)

    return Store(put, lambda keys: [cache.get(key) for key in keys], cache.close)


def files(folder: Path) -> Store:
    store = LocalFileStore(folder / "files")
    return Store(lambda batch: store.mset(list(batch.items())), store.mget, lambda: None)


def lmdb(folder: Path) -> Store:
    """Without waiting for the medium, as SQLite's log does not between checkpoints."""
    import lmdb as library

    environment: Any = library.open(str(folder / "lmdb"), map_size=2**32, sync=False)

    def put(batch: Batch) -> None:
        with environment.begin(write=True) as transaction:
            for key, value in batch.items():
                transaction.put(key.encode(), value)

    def get(keys: list[str]) -> list[bytes | None]:
        with environment.begin() as transaction:
            return [transaction.get(key.encode()) for key in keys]

    return Store(put, get, environment.close)


PEERS: dict[str, Callable[[Path], Store]] = {
    "tiercache": tiercache,
    "raw sqlite3": raw_sqlite,
    "diskcache, loop": looped,
    "diskcache, transact()": transacted,
    "LMDB": lmdb,
    "LangChain LocalFileStore": files,
}


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[dict[str, Store], dict[str, str]]]:
    """The peers that are here, each empty, and why the others are not."""
    here: dict[str, Store] = {}
    absent: dict[str, str] = {}
    for name, make in PEERS.items():
        try:
            here[name] = make(tmp_path)
        except ModuleNotFoundError:
            absent[name] = "not installed"
    yield here, absent
    for store in here.values():
        store.close()


def put_all(store: Store, batch: Batch) -> None:
    """Before a contest of reads, which are not to meet what this leaves behind."""
    store.put(batch)
    if store.settle is not None:
        store.settle()


def contest_of(
    stores: Any, name: str, title: str, size: int, rounds: int | None = None
) -> tuple[Contest, dict[str, Store]]:
    here, absent = stores
    contest = Contest(name, title, size=size, rounds=rounds)
    for peer, reason in absent.items():
        contest.absent(peer, reason)
    return contest, here


@pytest.mark.parametrize("length", [100, 6144, 65536])
def test_mget(hold: Any, stores: Any, keys: list[str], length: int) -> None:
    contest, here = contest_of(
        stores, f"disk-mget-{length}", f"`mget` of 1,000 values of {length:,} bytes", 1000
    )
    batch = {key: os.urandom(length) for key in keys}
    for name, store in here.items():
        put_all(store, batch)
        contest.add(name, lambda store=store: store.get(keys))
    if length == 6144:
        contest.at_most(1.25, of="raw sqlite3")
        contest.times_faster(2, than="diskcache, loop")
        contest.times_faster(12, than="LangChain LocalFileStore")
    if length == 100:
        contest.times_faster(3.5, than="diskcache, loop")
    hold(contest)


KINDS = {
    "long": "openai/text-embedding-3-small:" + "0123456789abcdef" * 4 + "{}",
    "non-ascii": "ключ-{}",
    "digests": "0123456789abcdef" * 16 + "{}",
}
#: Why LangChain's store has no turn: a key is the name of a file.
NO_FILE = {
    "long": "refuses keys with a colon",
    "non-ascii": "refuses keys with letters beyond ASCII",
    "digests": "a file's name has 255 bytes at most",
}


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_keys(hold: Any, stores: Any, tmp_path: Path, kind: str) -> None:
    """With values of 6,144 bytes; diskcache's are in its rows."""
    keys = [KINDS[kind].format(number) for number in range(1000)]
    batch = {name: os.urandom(6144) for name in keys}
    title = f"`mget` of 1,000 keys such as {keys[0]:.20}…"
    contest, here = contest_of(stores, f"disk-mget-{kind}", title, 1000)
    with diskcache.Cache(str(tmp_path / "in-rows"), disk_min_file_size=2**30) as other:
        for name, store in here.items():
            if name == "LangChain LocalFileStore":
                contest.absent(name, NO_FILE[kind])
            elif name == "diskcache, loop":
                with other.transact():
                    for key, value in batch.items():
                        other.set(key, value)
                contest.add(name, lambda: [other.get(key) for key in keys])
            elif name != "diskcache, transact()":  # which reads likewise
                put_all(store, batch)
                contest.add(name, lambda store=store: store.get(keys))
        hold(contest)


def test_get(hold: Any, stores: Any, tmp_path: Path, keys: list[str]) -> None:
    """One key a call, by what each has for that."""
    contest, here = contest_of(stores, "disk-get", "`get` of one value of 6,144 bytes", 1000)
    batch = {key: os.urandom(6144) for key in keys}
    for name, store in here.items():
        if not name.startswith(("tiercache", "diskcache")):
            put_all(store, batch)
            contest.add(name, lambda get=store.get: [get([key]) for key in keys])
    tier = DiskTier(tmp_path / "one")
    with TieredCache([tier], ttl="1h") as cache, diskcache.Cache(str(tmp_path / "other")) as other:
        cache.mset(batch)
        settled(cache, tier)()
        with other.transact():
            for key, value in batch.items():
                other.set(key, value)
        contest.add("tiercache", lambda: [cache.get(key) for key in keys])
        contest.add("the tier by itself", lambda: [tier.mget([key]) for key in keys])
        contest.add("diskcache", lambda: [other.get(key) for key in keys])
        contest.at_most(1.1, of="diskcache")
        hold(contest)


@pytest.mark.parametrize("length", [100, 6144])
def test_mset(hold: Any, stores: Any, length: int) -> None:
    contest, here = contest_of(
        stores, f"disk-mset-{length}", f"`mset` of 1,000 new keys, {length:,} bytes each", 1000
    )
    numbers = itertools.count()

    def batch() -> tuple[Batch]:
        return ({f"key-{next(numbers)}": os.urandom(length) for _ in range(1000)},)

    for name, store in here.items():
        contest.add(name, store.put, prepare=batch, settle=store.settle)
    if length == 6144:
        contest.times_faster(6, than="diskcache, loop")
        contest.times_faster(3, than="diskcache, transact()")
        contest.times_faster(4, than="LangChain LocalFileStore")
    hold(contest)


#: Of `test_mset_steady`: so many batches a round, and so many rounds. With those before the first one, which
#: are not told, more than a hundred batches.
BATCHES, ROUNDS = 20, 5


@pytest.mark.long
def test_mset_steady(hold: Any, stores: Any) -> None:
    """Batches one after another into a store that grows from round to round. What its log takes in is brought
    home meanwhile, and a round ends when that has: so it is in the time."""
    contest, here = contest_of(
        stores,
        "disk-mset-steady",
        f"{BATCHES} times `mset` of 1,000 new keys, 6,144 bytes each, with all checkpoints; "
        f"{BATCHES * (ROUNDS + 1)} times in all",
        1000 * BATCHES,
        rounds=ROUNDS,
    )
    noise = os.urandom(2**20)

    def batch(number: int) -> Batch:
        numbers = range(number * 1000, (number + 1) * 1000)
        return {f"key-{each}": noise[(at := each * 5003 % 2**19) : at + 6144] for each in numbers}

    def filling(store: Store) -> Callable[[], None]:
        numbers = itertools.count()

        def fill() -> None:
            for number in itertools.islice(numbers, BATCHES):
                store.put(batch(number))
            if store.settle is not None:
                store.settle()

        return fill

    for name, store in here.items():
        contest.add(name, filling(store), prepare=tuple)  # which takes care that a turn is one call
    contest.times_faster(3.5, than="diskcache, loop")
    contest.times_faster(1.7, than="diskcache, transact()")
    contest.times_faster(2, than="LangChain LocalFileStore")
    hold(contest)
