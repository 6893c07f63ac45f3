"""One table of options: against its model, or, for a tier of somebody else, its constructor's parameters."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

from tiercache.config._kinds import Kind
from tiercache.config._models import Options
from tiercache.config._problems import Problems, nearest, show
from tiercache.config._variables import VariableError, expand

__all__ = ["check_foreign", "join", "validate"]

M = TypeVar("M", bound=Options)


def join(path: str, key: object) -> str:
    """The path of ``key`` inside ``path``; a key that is no plain name is quoted."""
    name = (
        key
        if isinstance(key, str) and key.replace("-", "_").replace("[", "").replace("]", "").isidentifier()
        else json.dumps(str(key))
    )
    return f"{path}.{name}" if path else name


def validate(model: type[M], content: Mapping[Any, Any], problems: Problems, path: str) -> M | None:
    """``content`` as ``model``; ``None`` when there are problems, which were added then."""
    try:
        return model.model_validate(dict(content))
    except ValidationError as error:
        found = error.errors(include_url=False)
    names = {alias: field for name, field in model.model_fields.items() for alias in _names(name, field)}
    for one in found:
        key = one["loc"][0]
        if one["type"] in ("extra_forbidden", "invalid_key"):
            problems.add(join(path, key), _unknown(key, names))
        elif one["type"] == "missing":
            problems.add(join(path, key), f"is missing; give {_kind(names[str(key)]).allowed_now}")
        else:
            problems.add(join(path, key), _refused(one, str(key)))
    return None


def _names(name: str, field: FieldInfo) -> list[str]:
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]


def _kind(field: FieldInfo) -> Kind:
    return next(item for item in field.metadata if isinstance(item, Kind))


def _unknown(key: object, known: Mapping[str, Any]) -> str:
    if isinstance(key, str) and key in known:
        others = [name for name, field in known.items() if field is known[key] and name != key]
        return f'is the same option as "{others[0]}", which is given too; give one of them'
    hint = nearest(key, known) if isinstance(key, str) else ""
    return f"is not known; allowed: {', '.join(known)}{hint}"


def _refused(error: Any, name: str) -> str:
    reason = error["ctx"]["error"]
    if isinstance(reason, VariableError):
        return str(reason)
    return f"found {show(error['input'], name=name)}; allowed: {reason}"


def check_foreign(
    make: Callable[..., Any], content: Mapping[Any, Any], problems: Problems, path: str
) -> dict[str, Any] | None:
    """The arguments for ``make`` in ``content``, with variables expanded, their names held against its
    parameters; ``None`` when there are problems, which were added then. Values are its own affair."""
    try:
        parameters = list(inspect.signature(make).parameters.values())
        takes_any = any(one.kind is one.VAR_KEYWORD for one in parameters)
    except ValueError:  # written in C, and not telling
        parameters, takes_any = [], True
    known = {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    given: dict[str, Any] = {}
    wrong = False
    for key, value in content.items():
        if not isinstance(key, str) or (key not in known and not takes_any):
            problems.add(join(path, key), _unknown(key, known))
            wrong = True
            continue
        try:
            given[key] = _expanded(value)
        except VariableError as error:
            problems.add(join(path, key), str(error))
            wrong = True
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in content:
            problems.add(join(path, name), "is missing")
            wrong = True
    return None if wrong else given


def _expanded(value: Any) -> Any:
    if isinstance(value, str):
        return expand(value)
    if isinstance(value, Mapping):
        return {key: _expanded(one) for key, one in value.items()}
    return [_expanded(one) for one in value] if isinstance(value, list) else value
