"""Out of LangChain's stores and caches, into ours: a function for each of them.

    from tiercache.integrations.langchain.migrate import from_local_files

    print(from_local_files("./old-cache", store))

A source is only read: SQLite files are opened read-only, a Redis server gets SCAN and MGET. Entries are taken
in batches, whatever their number; what the target has already it keeps, so that an interrupted migration goes
on where it was when it is started again. What cannot be taken is skipped, and the `MigrationReport` says why.

Targets for the bytes of a store are

* a `TieredByteStore`: keys and bytes as they are, for code that goes on with ``CacheBackedEmbeddings`` and
  only changes its store;
* `CachedEmbeddings` or an `EmbeddingStore`: JSON vectors, packed. What follows ``prefix``, the ``namespace``
  of ``CacheBackedEmbeddings``, is the digest of a text; give the target the ``key_encoder`` by that name
  (``"sha1"`` was the default), so that it looks texts up under the same digests. Those of another encoder
  are skipped, and the report names the right one; only blake2b and sha512 look alike.

What is copied lives as long as the target's ``ttl`` says, counted from now; what its lowest tier has no room
for makes others go, which the report tells. ``progress`` shows a bar on a terminal (with ``rich`` installed),
else lines, on stderr.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tiercache.integrations.langchain.migrate._report import MigrationReport, Skipped
from tiercache.integrations.langchain.migrate._run import migrate

if TYPE_CHECKING:
    from tiercache.integrations.langchain.embedding_store import EmbeddingStore
    from tiercache.integrations.langchain.embeddings import CachedEmbeddings
    from tiercache.integrations.langchain.llm_cache import LLMCache
    from tiercache.integrations.langchain.stores import TieredByteStore

__all__ = [
    "MigrationReport",
    "Skipped",
    "from_local_files",
    "from_redis",
    "from_sql",
    "from_sqlite_cache",
]


def from_local_files(
    folder: str | os.PathLike[str],
    target: TieredByteStore | EmbeddingStore | CachedEmbeddings,
    *,
    prefix: str = "",
    any_key: bool = False,
    queries: bool = False,
    batch_size: int = 200,
    progress: bool = True,
) -> MigrationReport:
    """Copy the files of a ``LocalFileStore(folder)``.

    ``prefix``
        keys that do not begin with it are skipped; vectors lose it.
    ``any_key``
        take vectors whatever follows the prefix, and not only a digest that ``CacheBackedEmbeddings`` makes
        and the target looks for: for keys of a function of your own.
    ``queries``
        into `CachedEmbeddings`: these are vectors of queries, not of documents.
    ``batch_size``
        how many entries are in memory at a time.

    Links are not followed. Raises `ConfigError` for wrong arguments, and `WriteError` where the target's
    lowest tier takes no more writes; what was copied stays.
    """
    from tiercache.integrations.langchain.migrate._files import Files
    from tiercache.integrations.langchain.migrate._targets import target_for

    taker = target_for(target, prefix=prefix, any_key=any_key, queries=queries)
    return migrate(Files(folder), taker, batch_size=batch_size, progress=progress)


def from_redis(
    source: Any,
    target: TieredByteStore | EmbeddingStore | CachedEmbeddings,
    *,
    namespace: str | None = None,
    prefix: str = "",
    any_key: bool = False,
    queries: bool = False,
    batch_size: int = 200,
    progress: bool = True,
) -> MigrationReport:
    """Copy the keys of a ``RedisStore``: ``source`` is its URL or its client, ``namespace`` the store's own
    (``None``: it had none; then every string in the database is taken for one of its entries).

    How long Redis would have kept them is not asked for. The rest is as in `from_local_files`; what redis
    itself raises comes through.
    """
    from tiercache.integrations.langchain.migrate._redis import RedisKeys
    from tiercache.integrations.langchain.migrate._targets import target_for

    taker = target_for(target, prefix=prefix, any_key=any_key, queries=queries)
    return migrate(RedisKeys(source, namespace), taker, batch_size=batch_size, progress=progress)


def from_sql(
    url: str,
    target: TieredByteStore | EmbeddingStore | CachedEmbeddings,
    *,
    namespace: str,
    prefix: str = "",
    any_key: bool = False,
    queries: bool = False,
    batch_size: int = 200,
    progress: bool = True,
) -> MigrationReport:
    """Copy the rows of an ``SQLStore(db_url=url, namespace=namespace)``; ``url`` is SQLAlchemy's, with a
    blocking driver.

    The rest is as in `from_local_files`; what SQLAlchemy itself raises comes through, but as a `ConfigError`
    without them where it tells of secrets in ``url``.
    """
    from tiercache.integrations.langchain.migrate._sql import SQLRows
    from tiercache.integrations.langchain.migrate._targets import target_for

    taker = target_for(target, prefix=prefix, any_key=any_key, queries=queries)
    return migrate(SQLRows(url, namespace), taker, batch_size=batch_size, progress=progress)


def from_sqlite_cache(
    path: str | os.PathLike[str], target: LLMCache, *, batch_size: int = 200, progress: bool = True
) -> MigrationReport:
    """Copy the answers in the file of an ``SQLiteCache(path)`` into an `LLMCache`.

    Of what is stored there only LangChain's own generations and messages of models are read, none of their
    code is run by name; the rest is skipped. Raises as `from_local_files` does.
    """
    from tiercache.integrations.langchain.migrate._answers import Answers, SQLiteCacheFile

    answers = Answers(target)
    return migrate(SQLiteCacheFile(path), answers, batch_size=batch_size, progress=progress)
