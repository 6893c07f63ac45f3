"""Where an embedding class keeps its vectors, and the checks of what it is given for that."""

from __future__ import annotations

from typing import Any

from tiercache._view import TTL
from tiercache.chain import TieredCache
from tiercache.integrations.langchain._vectors import DType, check_dtype

__all__ = ["home_of"]


def home_of(cache: TieredCache[Any], namespace: str, dtype: DType, ttl: TTL) -> TieredCache[Any]:
    """The view of ``cache`` for vectors of ``namespace``, whose entries live for ``ttl``.

    Those that are rounded have one of their own: who asked for exact numbers must not be given these. Exact
    ones share it, since each tells how wide it is.

    Raises `ConfigError` for wrong arguments.
    """
    home = cache.view(namespace, ttl=ttl)
    return home.view("float16") if check_dtype(dtype) == "float16" else home
