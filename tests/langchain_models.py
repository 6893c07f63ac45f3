"""Models of embeddings for tests: what they answer can be worked out, what they were asked is on record."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Callable
from hashlib import blake2b, shake_256
from typing import Any

from langchain_core.embeddings import Embeddings

from tiercache import MemoryTier, TieredCache
from tiercache.integrations.langchain import CachedEmbeddings
from tiercache.testing import DictStore
from tiercache.tiers.encoded import EncodedTier

__all__ = ["GatedModel", "NativeModel", "RecordingModel", "cached", "document", "key_of", "over", "query"]


def document(text: str, length: int = 8) -> list[float]:
    """The vector of ``text`` as a document: numbers of its own, exact in float32."""
    numbers = array("h", shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * length))
    return [number / 1024 for number in numbers]


def query(text: str, length: int = 8) -> list[float]:
    """Another one, as a query."""
    return [number + 1 for number in document(text, length)]


class RecordingModel(Embeddings):
    """``batches``: the texts of each call for documents; ``queries``: the texts of queries. ``answer`` may
    change what is given for a batch."""

    def __init__(self, answer: Callable[[list[list[float]]], Any] = lambda vectors: vectors) -> None:
        self.batches: list[list[str]] = []
        self.queries: list[str] = []
        self.answer = answer
        self.length = 8

    @property
    def texts(self) -> list[str]:
        return [text for batch in self.batches for text in batch]

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.batches.append(list(texts))
        return self.answer([document(text, self.length) for text in texts])

    def embed_query(self, text: str) -> list[float]:
        self.queries.append(text)
        return query(text, self.length)


class NativeModel(RecordingModel):
    """Has async methods of its own. ``threads``: where they ran."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        self.threads.append(threading.get_ident())
        return self.embed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        self.threads.append(threading.get_ident())
        return self.embed_query(text)


class GatedModel(RecordingModel):
    """Waits in each call until ``open`` is set; ``entered`` is set when one has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.open = threading.Event()

    def _pass(self) -> None:
        self.entered.set()
        assert self.open.wait(30)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        answer = super().embed_documents(texts)
        self._pass()
        return answer

    def embed_query(self, text: str) -> list[float]:
        answer = super().embed_query(text)
        self._pass()
        return answer


def key_of(text: str) -> str:
    """The key that a text has by default."""
    return blake2b(text.encode(), digest_size=32).hexdigest()


def over(store: DictStore) -> TieredCache[Any]:
    """A chain over ``store`` whose memory is empty."""
    return TieredCache([MemoryTier(), EncodedTier(store)], promote="inline")


def cached(model: Any, cache: TieredCache[Any], **options: Any) -> CachedEmbeddings:
    """``model`` with ``cache`` before it, in a namespace of its own unless ``options`` name one."""
    return CachedEmbeddings(model, cache, **{"namespace": "model"} | options)
