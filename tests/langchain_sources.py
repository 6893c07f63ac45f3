"""What migrations start from: stores of LangChain's, filled by LangChain itself."""

from __future__ import annotations

import random
import warnings
from array import array
from pathlib import Path
from typing import Any

from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.embeddings import Embeddings

with warnings.catch_warnings():  # importing these says that they are deprecated; those who migrate have them
    warnings.simplefilter("ignore", DeprecationWarning)
    from langchain_community.cache import SQLiteCache
    from langchain_community.storage import RedisStore
    from langchain_community.storage.sql import SQLStore

__all__ = ["DIGESTS", "Model", "RedisStore", "SQLStore", "SQLiteCache", "bytes_of", "fill", "texts"]

#: The key encoders that `CacheBackedEmbeddings` has by name.
DIGESTS = ("sha1", "blake2b", "sha256", "sha512")


class Model(Embeddings):
    """Vectors that are a text's own, exact in float32; ``calls`` counts the texts."""

    def __init__(self, length: int = 8) -> None:
        self.length = length
        self.calls = 0

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.calls += len(texts)
        return [self._vector(text) for text in texts]

    def embed_query(self, text: str) -> list[float]:
        self.calls += 1
        return self._vector(f"query: {text}")

    def _vector(self, text: str) -> list[float]:
        own = random.Random(text)
        return array("f", (own.uniform(-1, 1) for _ in range(self.length))).tolist()


def texts(count: int) -> list[str]:
    return [f"text number {n}" for n in range(count)]


def fill(
    store: Any, count: int, *, namespace: str = "ada-", digest: str = "sha256", length: int = 8
) -> list[list[float]]:
    """Have LangChain embed ``count`` texts through ``store``; their vectors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that sha1 is weak is no news to a migration
        cached = CacheBackedEmbeddings.from_bytes_store(
            Model(length), store, namespace=namespace, key_encoder=digest, query_embedding_cache=False
        )
    return cached.embed_documents(texts(count))


def bytes_of(path: Path) -> dict[str, bytes]:
    """Every file at or below ``path``, and what is in it."""
    files = [path] if path.is_file() else sorted(item for item in path.rglob("*") if item.is_file())
    return {str(file): file.read_bytes() for file in files}
