"""``${VAR}`` and ``${VAR:-default}`` in texts of a configuration.

The default stands in for a variable that is not set or empty, as in a shell. ``$${`` is a literal ``${``;
any other ``$`` is itself, so that passwords need no care. What a variable holds is taken as it is: nothing
in it is expanded again.
"""

from __future__ import annotations

import os
import re

__all__ = ["VariableError", "expand"]

_REFERENCE = re.compile(r"\$?\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


class VariableError(ValueError):
    """A reference that cannot be resolved; the text says why, and never what a variable holds."""


def expand(text: str) -> str:
    """``text`` with its variables' values. Raises `VariableError` for one that is not set and has no
    default, and for a reference that is none."""
    return _REFERENCE.sub(_value, text)


def _value(match: re.Match[str]) -> str:
    if match[0].startswith("$$"):
        return match[0][1:]
    inside = _INSIDE.fullmatch(match["inside"])
    if not match["end"] or inside is None or "${" in match["inside"]:
        raise VariableError(
            'holds a "${" that begins no variable; write ${NAME} or ${NAME:-default} '
            '(a default holds no "}" and no other variable), or $${ for the characters themselves'
        )
    name, default = inside["name"], inside["default"]
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise VariableError(f"the variable {name} is not set; set it, or write a default: ${{{name}:-…}}")
    return value
