"""A configuration as plain data that means the same wherever it is read on this machine: for
`TieredCache.config`, and for pickles.

Its references to variables stay what they are; its relative paths begin at a folder from then on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from tiercache.config._codecs import OWN_CODECS
from tiercache.config._kinds import kind_of
from tiercache.config._models import MODELS, Options, RootOptions
from tiercache.config._options import is_path, names_of, paths_of
from tiercache.config._problems import join
from tiercache.config._sources import CACHES, FOLDER
from tiercache.config._variables import VariableError, expand
from tiercache.errors import ConfigError
from tiercache.registry import CHAIN, codec_maker, is_codec, is_tier, tier_maker

__all__ = ["portable"]

#: A relative path in the URL of a SQLite database: an absolute one has a fourth slash.
_RELATIVE = re.compile(r"(sqlite(?:\+\w+)?:///)([^/?].*)", re.DOTALL)


def portable(content: Mapping[Any, Any], folder: Path | None) -> dict[str, Any]:
    """``content`` in new tables and lists, with texts, numbers, true, false and null in them. Its relative
    paths begin at ``folder``; ``None``: they stay. ``content`` is as `read` gives it; of one whose variables
    say what is relative, ``$folder`` in the new one says where that begins.

    Raises `TypeError` for what is no plain data. What is not in order otherwise is left as it is.
    """
    made: dict[str, Any] = _plain(content, "")
    caches = made.get(CACHES)
    if folder is None:
        return made
    paths = _Paths(folder)
    for one in caches.values() if isinstance(caches, dict) else [made]:
        paths.of_root(one)
    return {FOLDER: _literal(folder), **made} if paths.left else made


def _plain(value: Any, path: str) -> Any:
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError(f"{path or 'it'} has a key that is no text")
        return {key: _plain(one, join(path, key)) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{path}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, os.PathLike):
        return _plain(os.fspath(value), path)
    raise TypeError(f"{path} is a {type(value).__name__}, which is no plain data")


class _Paths:
    """Begins paths at ``folder``; ``left`` says that one could not be without its variable."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.left = False

    def of_root(self, table: Any) -> None:
        """Those of a chain, and of the tiers in it."""
        if not isinstance(table, dict):
            return
        self._of_model(table, RootOptions)
        views = table.get("views")
        for one in (table, *(views.values() if isinstance(views, dict) else ())):
            self._of_codec(one.get("codec") if isinstance(one, dict) else None)
        tiers = table.get("tiers")
        for tier in tiers if isinstance(tiers, list) else ():
            if not isinstance(tier, dict):
                continue
            kind = _expanded(tier.get("type"))
            if kind == CHAIN:
                self.of_root(tier)
            elif kind in MODELS:
                self._of_model(tier, MODELS[kind])
            elif kind is not None and is_tier(kind):
                self._of_maker(tier, tier_maker, kind)

    def _of_codec(self, given: Any) -> None:
        kind = _expanded(given.get("type")) if isinstance(given, dict) else None
        if kind is not None and kind not in OWN_CODECS and is_codec(kind):
            self._of_maker(given, codec_maker, kind)

    def _of_model(self, table: dict[str, Any], model: type[Options]) -> None:
        for field_name, field in model.model_fields.items():
            kind = kind_of(field)
            for name in names_of(field_name, field) if kind.place else ():
                text = table.get(name)
                if isinstance(text, str):
                    begun = self._sqlite(text) if kind.place == "sqlite" else self._path(text, kind.nullable)
                    table[name] = begun

    def _of_maker(self, table: dict[str, Any], maker: Callable[[str], Any], kind: str) -> None:
        with suppress(ConfigError):  # that of a cache that was not asked for, which says so when it is
            for name, optional in paths_of(maker(kind)).items():
                given = table.get(name)
                if isinstance(given, str):
                    table[name] = self._path(given, optional)
                elif isinstance(given, list):
                    table[name] = [self._path(one, False) if isinstance(one, str) else one for one in given]

    def _path(self, text: str, nullable: bool) -> str:
        if nullable and text.startswith("${"):  # whether it is a path at all, that variable says
            self.left = True
            return text
        where = _expanded(text)
        if where is None or not is_path(where) or (nullable and where == "none"):
            return text
        if where.startswith("~") or os.path.isabs(where):  # noqa: PTH117 - a text
            return text
        return os.path.join(_literal(self._folder), text)  # noqa: PTH118 - a reference is no path

    def _sqlite(self, text: str) -> str:
        relative = _RELATIVE.fullmatch(_expanded(text) or "")
        if relative is None or relative[2].startswith(("~", "file:")) or ":memory:" in relative[2]:
            return text
        written = _RELATIVE.fullmatch(text)
        if written is None:  # a variable holds the beginning of the URL, and may hold a password besides
            self.left = True
            return text
        if "?" in str(self._folder):
            raise TypeError(
                f'the path of a database begins at {self._folder}, and a URL cannot hold the "?" in that'
            )
        return f"{written[1]}{_literal(self._folder)}/{written[2]}"


def _literal(text: object) -> str:
    return str(text).replace("${", "$${")


def _expanded(text: Any) -> str | None:
    try:
        return expand(text) if isinstance(text, str) else None
    except VariableError:
        return None
