"""Options that environment variables set: ``TIERCACHE__TIERS__2__URL`` is the ``url`` of ``tiers[2]``.

The parts of a name are keys, whatever their case ("_" also stands for "-"), and numbers are places in a list;
the one after its last appends. What a variable holds is text, taken as it is. In the configuration stands a
reference to the variable, so that what it holds is expanded where it is used, and shown where it is wrong.

Names that begin with ``TIERCACHE__CACHES__`` are for configurations with several caches, the others for those
with one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from tiercache.config._problems import Problems, join, nearest
from tiercache.config._sources import CACHES

__all__ = ["overridden"]

_PREFIX = "TIERCACHE__"
_VIEWS = "views"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
#: Two names of one option: setting the one takes the place of the other.
_SAME = {"path": "directory", "directory": "path"}


class _Refused(ValueError):
    """The variable leads nowhere; the text says why."""


def overridden(content: Mapping[Any, Any], problems: Problems) -> Mapping[Any, Any]:
    """A copy of ``content`` with what the environment sets; ``content`` itself where it sets nothing.

    What is wrong is added to ``problems``, which are told as well which variable set what.
    """
    variables = _variables(problems)
    several = CACHES in content
    made = content
    for parts, variable in sorted(variables.items(), key=lambda item: list(map(_order, item[0]))):
        if (parts[0] == CACHES) != several:
            if several:
                wanted = f"{_PREFIX}CACHES__NAME__{'__'.join(parts).upper()}"
                problems.add("", f"{variable} names none of its caches; write {wanted}")
            continue
        try:
            made = _copy(made) if made is content else made
            if several:
                _check_cache(made[CACHES], parts)
                _check_view(made[CACHES][_key(made[CACHES], parts[1])], parts[2:])
            else:
                _check_view(made, parts)
            problems.set_by(_put(made, parts, variable), variable)
        except _Refused as refused:
            problems.add("", f"{variable} {refused}")
        except RecursionError:  # an alias of YAML that names itself
            problems.add("", f"{variable} cannot be set in what is nested too deeply")
    return made


def _variables(problems: Problems) -> dict[tuple[str, ...], str]:
    """The variables that are there, by their parts in lower case."""
    found: dict[tuple[str, ...], str] = {}
    for variable in sorted(os.environ):
        if not variable.upper().startswith(_PREFIX):
            continue
        parts = tuple(variable[len(_PREFIX) :].lower().split("__"))
        if not all(parts) or not _NAME.fullmatch(variable):
            problems.add("", f"{variable!r} names no option; write one as in {_PREFIX}TIERS__0__URL")
        elif parts in found:
            problems.add("", f"{variable} and {found[parts]} set the same option; set one of them")
        else:
            found[parts] = variable
    return found


def _order(part: str) -> tuple[int, str]:
    """So that tiers[10] is appended after tiers[9]."""
    return (int(part), "") if part.isdecimal() else (-1, part)


def _check_cache(caches: Any, parts: tuple[str, ...]) -> None:
    if isinstance(caches, Mapping) and (len(parts) < 3 or _key(caches, parts[1]) not in caches):
        hint = nearest(parts[1], map(str, caches)) if len(parts) > 1 else ""
        raise _Refused(f"names no option of one of the caches {', '.join(map(repr, caches))}{hint}")


def _check_view(cache: Any, parts: tuple[str, ...]) -> None:
    """A variable may make one more view; but a slip of the name of one that is there would set nothing."""
    views = cache.get(_VIEWS) if isinstance(cache, Mapping) and parts[0] == _VIEWS else None
    if isinstance(views, Mapping) and len(parts) > 1 and _key(views, parts[1]) not in views:
        hint = nearest(parts[1], map(str, views))
        if hint:
            raise _Refused(f"names none of the views {', '.join(map(repr, views))}{hint}")


def _copy(value: Any) -> Any:
    """Tables and lists anew, so that what was passed in stays as it is."""
    if isinstance(value, Mapping):
        return {key: _copy(one) for key, one in value.items()}
    return [_copy(one) for one in value] if isinstance(value, list | tuple) else value


def _put(content: Any, parts: tuple[str, ...], variable: str) -> str:
    """Set what ``parts`` lead to; its path."""
    path, here = "", content
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        key: Any
        if isinstance(here, list):
            key, inner = _place(here, part, path), f"{path}[{part}]"
            there = here[key] if key < len(here) else None
        elif isinstance(here, dict):
            key = _key(here, part)
            inner, there = join(path, key), here.get(key)
        else:
            raise _Refused(f"leads into {path}, which is no table and no list")
        if last:
            there = _reference(there, variable)
            if isinstance(here, dict) and here.get("type") == "disk":
                here.pop(_SAME.get(key, ""), None)
        elif there is None:
            there = [] if parts[index + 1].isdecimal() else {}
        if isinstance(here, list) and key == len(here):
            here.append(there)
        else:
            here[key] = there
        path, here = inner, there
    return path


def _reference(there: Any, variable: str) -> str:
    # A configuration that was told by a cache refers to it already, perhaps below the folder of a file.
    reference = f"${{{variable}}}"
    return there if isinstance(there, str) and reference in there else reference


def _place(items: list[Any], part: str, path: str) -> int:
    if not part.isdecimal() or int(part) > len(items):
        raise _Refused(f"leads nowhere: {path} has {len(items)}, and {len(items)} would append")
    return int(part)


def _key(table: Mapping[Any, Any], part: str) -> Any:
    """The key of ``table`` that ``part`` means; ``part`` itself where there is none."""
    close = [key for key in table if isinstance(key, str) and key.lower().replace("-", "_") == part]
    if len(close) > 1:
        raise _Refused(f"may mean each of {', '.join(map(repr, close))}")
    return close[0] if close else part
