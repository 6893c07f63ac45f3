"""Reads a configuration: a file in TOML, YAML or JSON, or a mapping, and chooses one cache of several.

Knows nothing of what the options of a cache mean.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from tiercache._masking import mask
from tiercache.config._problems import Problems, close, hint, join, nearest, show
from tiercache.config._variables import VariableError, expand
from tiercache.errors import ConfigError, MissingPackage

__all__ = ["BESIDES", "CACHES", "FOLDER", "Source", "cache_names", "choose", "find", "parsed", "read"]

#: The table of a source with several caches.
CACHES = "caches"
#: The folder that relative paths begin at, where it is another than the file's, or none is known.
FOLDER = "$folder"
#: What is no option: where the schema is, for the author's editor, and that.
BESIDES = ("$schema", FOLDER)
#: Where the path of a configuration may be named.
_VARIABLE = "TIERCACHE_CONFIG"
_FILE, _PROJECT = "tiercache.toml", "pyproject.toml"
_IN_PROJECT = "[tool.tiercache]"


@dataclass(frozen=True, slots=True)
class Source:
    """``content``, what errors call its source (``where``), and the folder that relative paths begin at:
    the file's own, or the one that it names. A mapping that names none has none, and its paths are as
    anywhere in a program. ``file`` is the absolute path of the file."""

    where: str
    content: Mapping[Any, Any]
    folder: Path | None
    file: str | None = None


#: The head of a table of tiers, in single brackets or double.
_TIERS_TABLE = re.compile(r"""\s*\[\[?\s*(?:[\w"'-]+\s*\.\s*)*["']?tiers["']?\s*\]""")


#: What makes a number of YAML one that few mean: 1:30 is 90, and 010 is 8.
_OTHER_BASE = re.compile(r":|^[+-]?0(?=[0-7_]+$)")

_TOO_LONG = "a number of too many digits"
#: What may hold digits that are none, in TOML and JSON: texts and comments.
_NO_NUMBER = r'"""(?:\\[\s\S]|[^\\])*?"""|\'\'\'[\s\S]*?\'\'\'|"(?:\\.|[^"\\\n])*"|\'[^\'\n]*\'|#.*'


class _Refused(ValueError):
    """A parser would take it, and we do not."""


class _SyntaxError(ValueError):
    """The text is not of its format; the message says where. It shows nothing of the text."""

    def __init__(self, format_name: str, reason: str, line: int, column: int) -> None:
        super().__init__(f"is no valid {format_name}: line {line}, column {column}: {reason}")


def read(source: str | os.PathLike[str] | Mapping[str, Any] | None) -> Source:
    """What ``source`` holds: a mapping as it is, or the file at that path (``~`` is expanded); ``None``: the
    file that `find` finds. Of a ``pyproject.toml`` its table ``[tool.tiercache]``.

    Raises `ConfigError`, which names the file, for one that cannot be read, and `MissingPackage` where its
    format needs one.
    """
    file: str | None = None
    if isinstance(source, Mapping):
        content: Any = source
        where, folder = "the configuration", None
    else:
        path = find() if source is None else _path(source)
        file = os.path.abspath(path)  # noqa: PTH100 - as the folder is written, links and all
        where, folder = str(path), Path(file).parent
        content = parsed(path)
        if path.name == _PROJECT:
            where, content = f"{where} {_IN_PROJECT}", _in_project(content)
            if content is None:
                raise ConfigError(f"{path}: has no table {_IN_PROJECT}")
    if content is None or (isinstance(content, Mapping) and not content):
        raise ConfigError(f"{where}: is empty; it needs at least a list of tiers, each with a type")
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: holds a {type(content).__name__}, not a table of options")
    if FOLDER in content:
        folder = _folder(content[FOLDER], folder, where)
    content = {key: value for key, value in content.items() if key not in BESIDES}
    return Source(where, content, folder, file)


def _folder(named: Any, folder: Path | None, where: str) -> Path:
    """The folder that a configuration names; a relative one begins at ``folder``."""
    try:
        text = expand(named) if isinstance(named, str) else ""
        found = Path(text).expanduser() if text else None
    except VariableError as error:
        raise ConfigError(f"{where}: {FOLDER}: {error}") from None
    except RuntimeError:  # somebody's home that is unknown
        found = None
    if found is None:
        raise ConfigError(f"{where}: {FOLDER}: found {show(named)}; allowed: the path of a folder")
    return Path(os.path.abspath((folder or Path()) / found))  # noqa: PTH100 - links stay in it


def find() -> Path:
    """The file that `read` reads when it is given none: ``$TIERCACHE_CONFIG``, or, from the working directory
    upward, the first ``tiercache.toml``, or ``pyproject.toml`` that has a table ``[tool.tiercache]``.

    Raises `ConfigError` when there is none.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        path = _path(named)
        if not os.path.lexists(path):
            raise ConfigError(f"{path}: there is no such file; the variable {_VARIABLE} names it")
        return path
    try:
        here = Path.cwd()
    except OSError as error:  # it was removed
        raise ConfigError(f"from_config: the working directory cannot be read ({error.strerror})") from error
    for folder in (here, *here.parents):
        if (folder / _FILE).is_file():
            return folder / _FILE
        if _is_ours(folder / _PROJECT):
            return folder / _PROJECT
    raise ConfigError(
        f"there is no configuration: {_VARIABLE} is not set, and neither {_FILE} nor a {_PROJECT} with "
        f"{_IN_PROJECT} is in {here} or above it; `tiercache init` writes one, or give the path of a file"
    )


def _is_ours(project: Path) -> bool:
    """Whether that file has our table. One that is broken is ours if it names us: reading it then tells."""
    try:
        text = project.read_text("utf-8")
    except (OSError, ValueError):
        return False
    if "tiercache" not in text:
        return False
    try:
        return _in_project(_toml(text)) is not None
    except (ValueError, RecursionError):
        return True


def _in_project(content: Any) -> Any:
    tools = content.get("tool") if isinstance(content, Mapping) else None
    return tools.get("tiercache") if isinstance(tools, Mapping) else None


def cache_names(content: Mapping[Any, Any]) -> tuple[str, ...]:
    """The names of the caches in ``content``, below a slip of their key too; none where there is one without
    a name."""
    table = _table_of_caches(content)
    caches = None if table is None else content[table]
    return tuple(map(str, caches)) if isinstance(caches, Mapping) and not _is_one(caches) else ()


def choose(content: Mapping[Any, Any], name: str | None, problems: Problems) -> tuple[Mapping[Any, Any], str]:
    """The cache called ``name`` in ``content``, and its path there; ``None``: the only one.

    Adds to ``problems`` what stands beside several caches, and a slip of their key. Raises `ConfigError` when
    there is no such cache, or no telling which.
    """
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"from_config: name={name!r:.60} is no name; give text")
    table = _table_of_caches(content)
    if table is None:
        if name is not None:
            raise problems.error(f"has one cache, with no name, and none that is called {show(name)}")
        return content, ""
    _tell(content, table, problems)
    caches = content[table]
    if not isinstance(caches, Mapping) or not caches:
        raise problems.error(f"{table}: found {show(caches)}; allowed: a table with one table a cache")
    if _is_one(caches):
        problems.add(table, "holds a cache without a name; write [caches.NAME], and [[caches.NAME.tiers]]")
        return caches, table
    if any(not isinstance(key, str) for key in caches):
        raise problems.error(f"{table}: has a key that is no text")
    known = ", ".join(f'"{one}"' for one in caches)
    if name is None and len(caches) > 1:
        raise problems.error(f"has several caches; say which by its name: {known}")
    if name is None:
        (name,) = caches
    if name not in caches:
        raise problems.error(f"has no cache {show(name)}; there are: {known}{nearest(name, caches)}")
    chosen = caches[name]
    path = join(table, name)
    if not isinstance(chosen, Mapping) or not chosen:
        raise problems.error(f"{path}: found {show(chosen)}; allowed: a table with a list of tiers")
    return chosen, path


def _tell(content: Mapping[Any, Any], table: str, problems: Problems) -> None:
    """Add to ``problems`` what is wrong with the key of the caches, ``table``, and beside it."""
    if table != CACHES:
        problems.add(table, f"is not known{hint(CACHES)}")
    for key in content:
        if key != table:
            problems.add(str(key), 'cannot stand beside "caches"; put it into each [caches.NAME]')


def _table_of_caches(content: Mapping[Any, Any]) -> str | None:
    """The key of the caches in ``content``, or a slip of it where there are no tiers; ``None``: it is one
    cache. An option of one cache may resemble the key (``cache_ttl``): only what holds caches is a slip."""
    if CACHES in content or "tiers" in content:
        return CACHES if CACHES in content else None
    tables = (key for key, value in content.items() if isinstance(value, Mapping) and _holds_caches(value))
    return next((key for key in tables if isinstance(key, str) and close(key, (CACHES,))), None)


def _holds_caches(table: Mapping[Any, Any]) -> bool:
    return bool(table) and (_is_one(table) or all(isinstance(one, Mapping) for one in table.values()))


def _is_one(table: Mapping[Any, Any]) -> bool:
    """Whether ``table`` holds the tiers of a cache, and not caches: "tiers" may be the name of one."""
    return isinstance(table.get("tiers"), list | tuple)


def _path(source: Any) -> Path:
    try:
        text = os.fspath(source)
    except TypeError:
        text = None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(
            f"from_config: {mask(repr(source)):.60} is no configuration; give the path of a "
            f"{_SUFFIXES} file, or a mapping"
        )
    if "://" in text:
        raise ConfigError(f"{mask(text)}: is a URL, and not the path of a file; from_url takes those")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise ConfigError(f"{text}: names a home directory that is unknown") from None


def _unreadable(path: Path, error: OSError) -> ConfigError:
    if isinstance(error, FileNotFoundError):
        return ConfigError(f"{path}: there is no such file")
    if isinstance(error, PermissionError):
        return ConfigError(f"{path}: cannot be read by this user; give it the right to, or name another")
    return ConfigError(f"{path}: cannot be read ({error.strerror or type(error).__name__})")


def parsed(path: Path) -> Any:
    """What the file at ``path`` holds; ``None`` if that is nothing. Raises as `read`."""
    with suppress(OSError):  # reading it tells
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory; name the file in it, such as {path / _FILE}")
    parse = _FORMATS.get(path.suffix.lower())
    if parse is None and not os.path.lexists(path):  # it is not the suffix that is wrong
        raise ConfigError(f"{path}: there is no such file")
    if parse is None:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise ConfigError(f"{path}: has {found}, which names no format; allowed: {_SUFFIXES}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    wrong: int | None = None
    try:
        text = data.decode("utf-8-sig")  # editors on some systems begin a file with a mark
    except UnicodeDecodeError as error:
        wrong = error.start
    if wrong is not None:  # outside of the handler: that error holds the whole file
        raise ConfigError(f"{path}: is not UTF-8 text (byte {wrong})")
    if not text.strip():
        return None
    try:
        return parse(text)
    except ImportError as error:
        raise MissingPackage("PyYAML", "config", f"the configuration {path}") from error
    except RecursionError:
        reason = "is nested too deeply"
    except ValueError as error:
        reason = str(error)
    raise ConfigError(f"{path}: {reason}")  # outside: what a parser raised may show the text


def _position(text: str, index: int) -> tuple[int, int]:
    """The line and column of ``text[index]``, counted from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).rpartition(" (at ")
        numbers = [int(number) for number in re.findall(r"\d+", place)]
    except ValueError:
        reason, numbers = _TOO_LONG, [*_long_number(text)]
    line, column = numbers or _position(text, len(text))  # "at end of document"
    # Not splitlines(), which ends lines at characters that are none of TOML's, and drops an empty last one.
    if _TIERS_TABLE.match(text.split("\n")[line - 1]):  # a second one, with no list to be in
        reason += "; write [[tiers]], not [tiers], above the options of each"
    raise _SyntaxError("TOML", reason, line, column)


def _json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        reason, line, column = error.msg, error.lineno, error.colno
    except _Refused as error:
        raise ValueError(str(error)) from None
    except ValueError:
        reason, (line, column) = _TOO_LONG, _long_number(text)
    raise _SyntaxError("JSON", reason, line, column)


def _long_number(text: str) -> tuple[int, int]:
    """The line and column of the first number that has more digits than Python reads."""
    first = rf"|(?<![\w.])(\d(?:_?\d){{{sys.get_int_max_str_digits()},}}+)(?![.eE])"
    found = re.finditer(_NO_NUMBER + first, text)
    return _position(text, next((one.start(1) for one in found if one[1]), 0))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _Refused(f"has the key {twice!r} twice in one object")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise _Refused(f"holds {name}, which is no JSON")


def _yaml(text: str) -> Any:
    yaml: Any = import_module("yaml")  # it has no annotations of its own
    try:
        _check_nodes(yaml, yaml.compose(text, Loader=yaml.SafeLoader))
        try:
            return yaml.safe_load(text)
        except (ValueError, LookupError, AttributeError, OverflowError):
            pass  # what its constructors of dates and numbers raise, with the value in the text
        raise ValueError("is no valid YAML: it holds a value that is not of its kind (a date, a number)")
    except yaml.reader.ReaderError as error:
        reason = f"the character {chr(error.character)!r} is not allowed"
        line, column = _position(text, error.position)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = mark.line + 1, mark.column + 1
        # What a parser quotes may be a password that begins with a character of YAML's own.
        reason = re.sub(r" ?'[^'<][^']+'", "", error.problem or error.context or "")
    raise _SyntaxError("YAML", reason, line, column)


def _check_nodes(yaml: Any, node: Any) -> None:
    """Refuse a key that comes twice, of which the parser would silently take the last, and a number that it
    would silently read as another one."""
    waiting, seen = [node], set()
    while waiting:
        node = waiting.pop()
        if node is None or id(node) in seen:  # an alias, perhaps of what it stands in
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode) and key.value in keys:
                    mark = key.start_mark
                    raise _SyntaxError("YAML", "the key is there twice", mark.line + 1, mark.column + 1)
                keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
                waiting.append(value)
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif node.tag.endswith((":int", ":float")) and (other := _OTHER_BASE.search(node.value)):
            base = "60" if other[0] == ":" else "8"
            line, column = node.start_mark.line + 1, node.start_mark.column + 1
            raise _SyntaxError("YAML", f"a number in base {base}; put text in quotes", line, column)


_FORMATS: dict[str, Callable[[str], Any]] = {".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".json": _json}
_SUFFIXES = ", ".join(_FORMATS)
