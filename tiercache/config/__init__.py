"""From a file or mapping to a chain: reads it, checks all of it, then builds the tiers.

The parameters are those of the constructors. Every problem that can be seen is told in one `ConfigError`;
after an error no tier is left open.
"""

from __future__ import annotations

try:
    import pydantic as _pydantic  # noqa: F401 - whether it is there
except ImportError as error:
    from tiercache.errors import MissingPackage

    raise MissingPackage("pydantic", "config", "TieredCache.from_config") from error

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tiercache.config._build import Builder
from tiercache.config._check import check_chain
from tiercache.config._problems import Problems
from tiercache.config._sources import read

__all__ = ["build"]

C = TypeVar("C")


def build(source: str | os.PathLike[str] | Mapping[str, Any], chain: Callable[..., C]) -> C:
    """The chain that ``source`` describes, made by ``chain`` (as `TieredCache` is called).

    Raises `ConfigError` with all that is wrong, and `MissingPackage` where a file's format needs one.
    """
    found = read(source)
    problems = Problems(found.where)
    plan = check_chain(found.content, found.folder, problems)
    builder = Builder(chain, problems)
    built = builder.chain(plan) if plan is not None else None
    if problems.any or built is None:
        builder.close()
        raise problems.error()
    return built
