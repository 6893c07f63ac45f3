"""Of whom each contest tells: the caches that people use for its job, each of which takes part or is told as
absent, with the reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

__all__ = ["missing", "wanted"]

_IN_MEMORY: Final = ("functools.lru_cache", "cachetools", "cachebox", "theine", "moka-py")
_ON_DISK: Final = ("raw sqlite3", "diskcache", "LMDB", "LangChain LocalFileStore")
#: Those that keep values in memory, on a server or both.
_OVER_SERVERS: Final = (
    "dogpile",
    "cashews",
    "aiocache",
    "LiteLLM DualCache",
    "py-key-value-aio",
    "kmcache",
)
_NOBODY: Final = ()

#: By what the names of contests are; the first that fits has the word.
_WANTED: Final[Sequence[tuple[str, Sequence[str]]]] = (
    # What is taken apart, by tiers, by steps or by size, stands beside its own parts and drivers.
    (r"(memory|disk|redis|sqlite|postgresql)-alone-\w+", _NOBODY),
    (r"memory-(mget-|set-)?steps", _NOBODY),
    # What tells of hits, beside none of it.
    (r"observed-.+", _NOBODY),
    (r"scale-.+|disk-mget-signed|envelope-signed|codec-encrypted", _NOBODY),
    # Nobody else has chains of a disk or a database; what is done by hand stands beside them.
    (r"chain-(\d|miss|l3-hit).*", _NOBODY),
    (r"chain-peers(-blocking)?", _OVER_SERVERS),
    (
        r"(memory-(get|get-fresh|aget|mget|set-full|threads)|entry-bytes)",
        ("dict", *_IN_MEMORY, *_OVER_SERVERS),
    ),
    (r"(load-\w+|decorator(-awaited)?)", (*_IN_MEMORY, *_OVER_SERVERS)),
    (r"disk-(mget|get|mset)(-.+)?|processes-\w+", _ON_DISK),
    (r"redis-a?m?(get|set)(-.+)?", ("redis-py", "LangChain RedisStore", *_OVER_SERVERS)),
    (r"postgresql-.+", ("raw psycopg", "SQLAlchemy Core", "LangChain SQLStore")),
    (r"sqlite-.+", ("raw sqlite3", "SQLAlchemy Core", "LangChain SQLStore", "LangChain SQLStore, WAL")),
    (
        r"embeddings-(cold|warm)(-.+)?",
        ("LocalFileStore", "InMemoryByteStore", "RedisStore", "SQLStore", "SQLStore, WAL"),
    ),
    (r"import", ("dict", *_IN_MEMORY, *_ON_DISK[1:], *_OVER_SERVERS)),
)


def wanted(contest: str) -> Sequence[str]:
    """Of whom the contest of this name is to tell. Raises `LookupError` where nobody has said."""
    for names, peers in _WANTED:
        if re.fullmatch(names, contest):
            return peers
    raise LookupError(f"benchmarks/peers.py does not say who is to take part in {contest!r}")


def missing(contest: str, told: Iterable[str]) -> list[str]:
    """Those of whom it tells nothing. Someone is told of by a name that says more: which class, or how."""
    names = list(told)
    return [peer for peer in wanted(contest) if not any(name.startswith(peer) for name in names)]
