"""The texts in a budget, as a configuration has it: its numbers may be text, as what variables hold is."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from tiercache.config._variables import expand

__all__ = ["AMOUNT", "SHARE", "budget_in"]

#: An amount of money above zero and below a million that is text, as a regular expression of JSON Schema too.
AMOUNT = r"(?=.*[1-9])0*[0-9]{1,6}(\.[0-9]+)?"
#: The same of a share, above zero and up to one.
SHARE = r"(?=.*[1-9])0*(1(\.0*)?|\.[0-9]+)"


def budget_in(value: Any) -> Any:
    """``value``, an amount or a table, with numbers in the place of texts and variables expanded. A text in
    a table that is not in order stays as it is written, to be told so. Raises `ValueError` for text that is
    no amount, and `VariableError`."""
    if isinstance(value, str):
        return _amount(value)
    if not isinstance(value, Mapping):
        return value
    return {name: _in_table(one, _TEXTS.get(name, str)) for name, one in value.items()}


def _in_table(value: Any, read: Callable[[str], Any]) -> Any:
    if isinstance(value, list | tuple):
        return [_in_table(one, read) for one in value]
    if not isinstance(value, str):
        return value
    text = expand(value)
    try:
        return read(text)
    except ValueError:
        return value  # and not what a variable holds


def _amount(text: str) -> float:
    if not re.fullmatch(AMOUNT, text):
        raise ValueError
    return float(text)


def _share(text: str) -> float:
    if not re.fullmatch(SHARE, text):
        raise ValueError
    return float(text)


def _action(text: str) -> str:
    if text not in ("block", "warn"):
        raise ValueError
    return text


_TEXTS: Mapping[str, Callable[[str], Any]] = {"per_day": _amount, "warn_at": _share, "action": _action}
