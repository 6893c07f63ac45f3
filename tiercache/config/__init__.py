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

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from tiercache._chain.pickling import Recipe
from tiercache.config._build import Builder
from tiercache.config._check import ViewPlan, check_root
from tiercache.config._overrides import overridden
from tiercache.config._portable import portable
from tiercache.config._problems import Problems
from tiercache.config._schema import schema
from tiercache.config._sources import cache_names, choose, find, read
from tiercache.config._urls import tables

__all__ = ["Built", "build", "build_urls", "cache_names", "find", "read", "schema"]

C = TypeVar("C")

#: What errors call a configuration of URLs.
_URLS = "from_url"


@dataclass(frozen=True, slots=True)
class Built(Generic[C]):
    """A chain, its views by name as `TieredCache.view` is called for them, and where they came from: of a
    file ``recipe`` is the path, of a mapping that itself. ``config`` is the one cache, as JSON; ``None``
    where it is no plain data, and then ``reason`` says what is none."""

    chain: C
    views: Mapping[str, ViewPlan]
    recipe: Recipe | None
    config: str | None
    reason: str


def build(
    source: str | os.PathLike[str] | Mapping[str, Any] | None,
    chain: Callable[..., C],
    name: str | None = None,
    where: str | None = None,
) -> Built[C]:
    """The chain that ``source`` describes (as `read` reads it), made by ``chain`` (as `TieredCache` is
    called); where it describes several, the one called ``name``. Errors call a mapping ``where``.

    Raises `ConfigError` with all that is wrong, and `MissingPackage` where a file's format needs one.
    """
    found = read(source)
    problems = Problems(where or found.where)
    content, path = choose(overridden(found.content, problems), name, problems)
    plan, views = check_root(content, found.folder, problems, path)
    builder = Builder(chain, problems)
    built = builder.chain(plan)
    if problems.any or built is None:
        builder.close()
        raise problems.error()
    recipe, config, reason = None, None, ""
    if found.file is not None:
        recipe = Recipe(found.file, name, is_mapping=False)
    try:
        folder = found.folder or _here()
        config = json.dumps(portable(content, folder))
        recipe = recipe or Recipe(json.dumps(portable(found.content, folder)), name, is_mapping=True)
    except (TypeError, RecursionError) as error:
        reason = str(error)
    return Built(built, views, recipe, config, reason)


def build_urls(urls: Sequence[Any], options: Mapping[str, Any], chain: Callable[..., C]) -> Built[C]:
    """The chain of the tiers that ``urls`` name, with the ``options`` of a chain; as `build`."""
    problems = Problems(_URLS)
    if "tiers" in options:
        problems.add("tiers", "is what the URLs say; give options of the chain besides them")
    listed = tables(urls, problems)
    if problems.any:
        raise problems.error()
    return build({"tiers": listed, **options}, chain, where=_URLS)


def _here() -> Path | None:
    try:
        return Path.cwd()
    except OSError:  # it was removed: nothing can begin at it
        return None
