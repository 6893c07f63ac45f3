"""Where an embedding class keeps its vectors, and the checks of what it is given for that."""

from __future__ import annotations

from typing import Any, Final

from tiercache._chain.view import TTL
from tiercache.chain import TieredCache
from tiercache.errors import ConfigError
from tiercache.integrations.langchain._vectors import DType, check_dtype

__all__ = ["check_model", "home_of"]

_VERBS: Final = ("embed_documents", "embed_query", "aembed_documents", "aembed_query")


def check_model(owner: str, model: Any) -> None:
    """Raise `ConfigError` for what stands where ``owner`` takes its model, and is none."""
    if isinstance(model, TieredCache):
        raise ConfigError(f"{owner}: the model comes first, then the cache")
    if isinstance(model, type):
        raise ConfigError(f"{owner}: {model.__qualname__} is a class; give an object, not the class")
    # One of them is enough: there are models of queries alone, and of async code alone.
    if not any(callable(getattr(model, verb, None)) for verb in _VERBS):
        raise ConfigError(
            f"{owner}: a {type(model).__name__} is no model; give an object with embed_documents and "
            f"embed_query, as LangChain's Embeddings have"
        )


def home_of(owner: str, cache: TieredCache[Any], namespace: str, dtype: DType, ttl: TTL) -> TieredCache[Any]:
    """The view of ``cache`` for vectors of ``namespace``, whose entries live for ``ttl``.

    Those that are rounded have one of their own: who asked for exact numbers must not be given these. Exact
    ones share it, since each tells how wide it is.

    Raises `ConfigError`, which names ``owner`` where it must, for wrong arguments.
    """
    if not isinstance(cache, TieredCache):
        raise ConfigError(f"{owner}: a {type(cache).__name__} is no TieredCache")
    if namespace == "":
        raise ConfigError("namespace: it is empty; give one that names the model, so that models stay apart")
    home = cache.view(namespace, ttl=ttl)
    return home.view("float16") if check_dtype(dtype) == "float16" else home
