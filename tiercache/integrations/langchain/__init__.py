"""LangChain's caches and stores, over a chain of tiers. Needs ``langchain-core`` alone.

A class, and what it needs, is imported when its name is first used. Raises `MissingPackage` where
``langchain-core`` is not installed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from tiercache.errors import MissingPackage

if find_spec("langchain_core") is None:
    raise MissingPackage("langchain-core", "langchain", __name__)

if TYPE_CHECKING:
    from tiercache.integrations.langchain.embedding_store import EmbeddingStore
    from tiercache.integrations.langchain.embeddings import CachedEmbeddings
    from tiercache.integrations.langchain.llm_cache import LLMCache, Prices
    from tiercache.integrations.langchain.store_tier import StoreTier
    from tiercache.integrations.langchain.stores import TieredByteStore

__all__ = [
    "CachedEmbeddings",
    "EmbeddingStore",
    "LLMCache",
    "Prices",
    "StoreTier",
    "TieredByteStore",
]

_LAZY = {
    "CachedEmbeddings": "tiercache.integrations.langchain.embeddings",
    "EmbeddingStore": "tiercache.integrations.langchain.embedding_store",
    "LLMCache": "tiercache.integrations.langchain.llm_cache",
    "Prices": "tiercache.integrations.langchain.llm_cache",
    "StoreTier": "tiercache.integrations.langchain.store_tier",
    "TieredByteStore": "tiercache.integrations.langchain.stores",
}


def __getattr__(name: str) -> Any:
    try:
        module = import_module(_LAZY[name])
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = globals()[name] = getattr(module, name)
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
