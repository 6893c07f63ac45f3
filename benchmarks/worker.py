"""A process that reads and writes a store on disk when it is told to: for the contests of several processes.

``python -m benchmarks.worker KIND FOLDER [cold]``: prints ``ready`` once it is, and ``done`` after each line
of its input: ``read`` or ``write`` and how many batches of 100, or ``settle``, which waits for what the store
does behind its callers. ``cold``: the kernel is asked to forget what
it holds of the folder's files. That needs no privileges; what other processes have mapped, and what the
medium's own memory holds, stays.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.raw_sqlite import Table

__all__ = ["KEYS", "LENGTH", "STORES", "open_store"]

#: How many keys the stores hold, and how long their values are.
KEYS, LENGTH = 10_000, 1024

Batch = dict[str, bytes]
Store = tuple[Callable[[Batch], object], Callable[[list[str]], object]]
#: What waits for what the store of this process does behind its callers.
_settles: list[Callable[[], object]] = []


def tiercache(folder: Path) -> Store:
    from benchmarks.settled import settled
    from tiercache import DiskTier, TieredCache

    tier = DiskTier(folder / "tiercache", deadline="60s")
    cache = TieredCache([tier], ttl="1h")
    _settles.append(settled(cache, tier))
    return cache.mset, cache.mget


def diskcache(folder: Path) -> Store:
    from diskcache import Cache

    cache = Cache(str(folder / "diskcache"), timeout=60)

    def put(batch: Batch) -> None:
        with cache.transact():
            for key, value in batch.items():
                cache.set(key, value, expire=3600)

    return put, lambda keys: [cache.get(key) for key in keys]


def raw_sqlite(folder: Path) -> Store:
    table = Table(folder / "raw.db")
    return table.put, table.get


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

    return put, get


def files(folder: Path) -> Store:
    from langchain_classic.storage import LocalFileStore

    store = LocalFileStore(folder / "files")
    return lambda batch: store.mset(list(batch.items())), store.mget


STORES: dict[str, Callable[[Path], Store]] = {
    "tiercache": tiercache,
    "diskcache": diskcache,
    "raw sqlite3": raw_sqlite,
    "LMDB": lmdb,
    "LangChain LocalFileStore": files,
}


def open_store(kind: str, folder: Path) -> Store:
    return STORES[kind](folder)


def forget(folder: Path) -> None:
    """Have the kernel write out and forget what it holds of the files in ``folder``."""
    for path in folder.rglob("*"):
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                os.fsync(descriptor)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(descriptor)


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    numbers = itertools.count(1)
    some = random.Random(os.getpid())
    if "cold" in sys.argv:
        forget(folder)
    put, get = open_store(kind, folder)
    get(["nowhere"])  # some open their files only now
    print("ready", flush=True)
    for line in sys.stdin:
        verb, _, count = line.strip().partition(" ")
        for settle in _settles if verb == "settle" else ():
            settle()
        for _ in range(int(count or 0)):
            if verb == "read":
                get([f"key-{some.randrange(KEYS)}" for _ in range(100)])
            else:
                new = [f"{os.getpid()}-{next(numbers)}" for _ in range(100)]
                put({key: os.urandom(LENGTH) for key in new})
        print("done", flush=True)


if __name__ == "__main__":
    main()
