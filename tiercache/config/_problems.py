"""What is wrong with a configuration: collected, worded for its author, and free of secrets."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from tiercache._masking import begins_as_path, mask, mask_place
from tiercache.errors import ConfigError

__all__ = ["Problems", "begun", "close", "hint", "join", "lacks", "meant", "nearest", "show"]

_LONGEST = 80  # characters of a value that are shown

#: A key of our own codecs, whole or not, that was written in the wrong place.
_HEX_KEY = re.compile(r"(?<![0-9a-z])[0-9a-f]{32,}(?![0-9a-z])", re.IGNORECASE)
#: What people call the types of tiers: their servers, and how they work.
_ALSO_CALLED = {
    "memory": {"lru", "lfu", "fifo", "ram", "dict", "local", "inmemory", "in-memory", "in_memory"},
    "disk": {"file", "files", "filesystem", "fs", "directory", "diskcache"},
    "redis": {"valkey", "keydb", "dragonfly"},
    "rediss": {"valkeys"},
    "sql": {
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "sqlite",
        "sqlite3",
        "sqlalchemy",
        "database",
        "db",
    },
    "null": {"none", "off", "no", "disabled", "dummy", "noop", "nothing"},
}
#: What names a class, and holds no password where one is asked for: "user:hunter2" is none.
_CLASS = re.compile(r"[a-z_]\w*(?:\.[a-z_]\w*)*:[A-Z]\w*", re.ASCII)
#: See `tiercache.config._overrides`.
_OVERRIDE = re.compile(r"\$\{(TIERCACHE__\w+)\}", re.IGNORECASE | re.ASCII)


class Problems:
    """The problems of one source, in the order in which they were found."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._found: list[str] = []
        self._variables: dict[str, str] = {}

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._found)

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._found)

    def add(self, path: str, text: str) -> None:
        """``text`` is wrong at ``path``, such as ``tiers[2].deadline``; ``""`` is the whole."""
        set_by = [
            variable
            for place, variable in self._variables.items()
            if path and (_is_in(path, place) or _is_in(place, path))
        ]
        told = f" (set by {', '.join(set_by)})" if set_by else ""
        self._found.append(f"{path}{told}: {text}" if path else text)

    def set_by(self, path: str, variable: str) -> None:
        """What is at ``path`` comes from that environment variable: problems with it name it."""
        self._variables[path] = variable

    def error(self, last: str | None = None) -> ConfigError:
        """All of them, in one error, and ``last`` behind which no more can be told."""
        if last is not None:
            self._found.append(last)
        if len(self._found) == 1:
            return ConfigError(f"{self._where}: {self._found[0]}")
        lines = "".join(f"\n  {problem}" for problem in self._found)
        return ConfigError(f"{self._where}: {len(self._found)} problems{lines}")


def join(path: str, key: object) -> str:
    """The path of ``key`` inside ``path``; a key that is no plain name is quoted."""
    name = key if isinstance(key, str) and key.replace("-", "_").isidentifier() else json.dumps(str(key))
    return f"{path}.{name}" if path else name


def _is_in(path: str, place: str) -> bool:
    return path == place or (path.startswith(place) and path[len(place)] in ".[")


def show(value: object, *, is_url: bool = False, is_type: bool = False) -> str:
    """``value`` as a configuration spells it, short, without secrets; of a reference to one of our own
    variables what that holds. ``is_url``, ``is_type``: it stands in the place of one; a type may name a
    class, as ``package.module:Name``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        override = _OVERRIDE.fullmatch(value)
        held = os.environ.get(override[1], value) if override else value
        names_class = is_type and _CLASS.fullmatch(held)
        text = held if names_class else mask_place(held) if is_url else mask(held)
        text = _HEX_KEY.sub("***", text)
        text = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
        return '"' + "".join(c if c.isprintable() else repr(c)[1:-1] for c in text) + '"'
    if isinstance(value, int | float) and is_url:
        return "a number"
    if isinstance(value, int | float):
        return f"{value}" if isinstance(value, float) or abs(value) < 10**_LONGEST else "a huge number"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return f"a value of type {type(value).__name__}"


def meant(name: str, known: Iterable[str]) -> str | None:
    """As `close`, of the types of tiers, and the schemes of their URLs: people write what is behind one."""
    word = name.lower().partition("+")[0]
    known = list(known)
    called = (one for one in known if word in _ALSO_CALLED.get(one, ()))
    return next(called, None) or close(name, known)


def close(name: str, known: Iterable[str]) -> str | None:
    """The one of ``known`` that ``name`` may be a slip of, or the beginning of, and of no other."""
    spelling = {other.lower().replace("-", "_"): other for other in known}
    word = name.lower().replace("-", "_")
    found = [other for other in spelling if other.startswith(word)] if len(word) > 1 else []
    if len(found) != 1:
        found = get_close_matches(word, spelling, n=1, cutoff=0.6)
    return spelling[found[0]] if found else None


def lacks(text: str, schemes: Iterable[str], for_path: str) -> str | None:
    """How a URL begins that ``text``, which is none, may mean: one of ``schemes`` without both slashes, or a
    path, for which URLs begin with ``for_path``: that of a socket is absolute."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme in schemes and not rest.startswith("//"):
        return begun(scheme)
    is_path = begins_as_path(text) and (text.startswith("/") or for_path != "unix://")
    return f"{for_path}…" if is_path else None


def begun(scheme: str) -> str:
    """How URLs of ``scheme`` begin, behind which an address follows: SQLite's has no host before its path."""
    return f"{scheme}:///…" if scheme == "sqlite" else f"{scheme}://…"


def nearest(name: str, known: Iterable[str]) -> str:
    """A question that names the one of ``known`` that ``name`` may be a slip of; or nothing."""
    return hint(close(name, known))


def hint(meant: str | None) -> str:
    """A question that names ``meant``; or nothing where that is ``None``."""
    return "" if meant is None else f'; did you mean "{meant}"?'
