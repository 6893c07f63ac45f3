"""The classes in a call's parameters: what each of them asks a model for, where a repr has only its name.

A class given as ``response_format`` or ``schema`` is in ``llm_string`` as ``<class 'app.Person'>``; when its
fields change, the text stays. So the class is looked up among the loaded modules, and what it is made of
becomes part of the key. Nothing is imported, and no module's ``__getattr__`` is called.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Any, get_type_hints, is_typeddict
from weakref import WeakKeyDictionary

from pydantic import BaseModel

__all__ = ["ADDRESS", "schemas"]

#: In the repr of an object without a text of its own. It says nothing in another process, and soon belongs to
#: another object in this one.
ADDRESS = re.compile(r"\bat 0x[0-9a-fA-F]{6,}")
# A class by itself; else, outside of strings, names with dots: those in ``list[app.Person]``.
_CLASS = re.compile(r"<class '([^']+)'>")
_NAME = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|(?<![\w.])([^\W\d]\w*(?:\.(?:\w+|<locals>))+)", re.DOTALL
)
# A schema costs a tenth of a millisecond and more, and a model's class keeps the one it was made with.
_models: WeakKeyDictionary[type, str] = WeakKeyDictionary()


def schemas(text: str) -> tuple[dict[str, str], str | None]:
    """For each class with fields that ``text`` names: its path and a text of what it consists of.

    Models of pydantic, dataclasses and TypedDicts have fields, and the classes in these are looked at too;
    others are known by their name alone. The second result tells why it cannot be done, or is ``None``.
    """
    found: dict[str, str] = {}
    texts = [text]
    while texts:
        text = texts.pop()
        certain = {path for path in _CLASS.findall(text) if "." in path}  # those without are builtins
        for path in sorted(certain.union(filter(None, _NAME.findall(text)))):
            if path in found:
                continue
            kind = _resolved(path)
            if kind is None:
                if path in certain or "<locals>" in path:
                    return {}, f"a parameter is the class {path}, which its module does not hold by that name"
                continue
            try:
                schema = _schema(kind)
            except Exception as error:  # noqa: BLE001 - a class may have hooks, which raise what they like
                return {}, f"a parameter is the class {path}, which has no schema: {type(error).__name__}"
            if schema is None:
                continue
            if ADDRESS.search(schema):
                return {}, f"a parameter is the class {path}, with an object that has only an address"
            found[path] = schema
            if not issubclass(kind, BaseModel):  # whose schema holds those of its parts
                texts.append(schema)
    return found, None


def _resolved(path: str) -> type | None:
    """The class that calls itself ``path``, if a loaded module holds it."""
    names = path.split(".")
    for count in range(len(names) - 1, 0, -1):
        item: Any = sys.modules.get(".".join(names[:count]))
        if item is None:
            continue
        for name in names[count:]:
            item = getattr(item, "__dict__", {}).get(name)
        # One of another name is an alias for it, or has taken the place of the one that is meant.
        if isinstance(item, type) and f"{item.__module__}.{item.__qualname__}" == path:
            return item
    return None


def _schema(kind: type) -> str | None:
    if issubclass(kind, BaseModel):
        if (schema := _models.get(kind)) is None:
            schema = _models[kind] = json.dumps(kind.model_json_schema(), sort_keys=True)
        return schema
    if not (is_typeddict(kind) or dataclasses.is_dataclass(kind)):
        return None
    try:
        hints = get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - names that only type checkers know; then the annotations' own texts
        hints = dict(kind.__annotations__)
    required = sorted(getattr(kind, "__required_keys__", ()))
    return repr((kind.__doc__, list(hints.items()), required))
