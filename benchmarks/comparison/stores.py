"""LangChain's stores of bytes, over which its caches of embeddings and documents are put.

They keep bytes; here they get JSON, as their users must write it. They load nothing and have no expiry.
"""

from __future__ import annotations

import json
import warnings
from typing import Any

from benchmarks.comparison.adapter import MISS, Adapter

__all__ = ["ADAPTERS"]


class Store(Adapter):
    store: Any

    def get(self, key: str) -> Any:
        (found,) = self.store.mget([key])
        return MISS if found is None else json.loads(found)

    def set(self, key: str, value: Any) -> None:
        self.store.mset([(key, json.dumps(value).encode())])

    def rewrites(self, values: list[str]) -> None:
        """For ever; most of the time is to be the store's, not JSON's."""
        pairs = [("torn", json.dumps(value).encode()) for value in values]
        while True:
            for pair in pairs:
                self.store.mset([pair])

    def delete(self, key: str) -> None:
        self.store.mdelete([key])

    def get_many(self, keys: list[str]) -> list[Any]:
        return list(self.store.mget(keys))

    def can_list(self) -> str:
        self.store.mset([("list-a", b"1"), ("folder/a", b"1"), ("b", b"1")])
        for prefix, found, word in (
            ("list-", ["list-a"], "prefix"),
            ("folder", ["folder/a"], "folder"),
            ("list-*", ["list-a"], "pattern"),
        ):
            if list(self.store.yield_keys(prefix=prefix)) == found:
                return f"yes: by {word}"
        return "no"


class LocalFiles(Store):
    """``LocalFileStore(folder)``."""

    def __init__(self, told: dict[str, Any]) -> None:
        from langchain_classic.storage import LocalFileStore

        super().__init__(told)
        self.store = LocalFileStore(self.folder)


class InMemory(Store):
    """``InMemoryByteStore()``."""

    def __init__(self, told: dict[str, Any]) -> None:
        from langchain_core.stores import InMemoryByteStore

        super().__init__(told)
        self.store = InMemoryByteStore()


class Redis(Store):
    """``RedisStore(redis_url=…, namespace="app", ttl=life)``."""

    def __init__(self, told: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langchain_community.storage import RedisStore

        super().__init__(told)
        self.store = RedisStore(redis_url=self.url, namespace="app", ttl=int(self.life))


class Sql(Store):
    """``SQLStore(namespace="app", db_url="sqlite:///…")``."""

    def __init__(self, told: dict[str, Any]) -> None:
        from pathlib import Path

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from langchain_community.storage import SQLStore

        super().__init__(told)
        Path(self.folder).mkdir(exist_ok=True)
        self.store = SQLStore(namespace="app", db_url=f"sqlite:///{self.folder}/store.db")
        self.store.create_schema()


ADAPTERS: dict[str, type[Adapter]] = {
    "LocalFileStore": LocalFiles,
    "InMemoryByteStore": InMemory,
    "RedisStore": Redis,
    "SQLStore": Sql,
}
