"""One table of options: against its model, or, for a tier of somebody else, its constructor's parameters."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from traceback import extract_tb
from typing import Any, TypeVar

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

from tiercache.config._kinds import kind_of
from tiercache.config._models import Options
from tiercache.config._problems import Problems, close, hint, join, nearest, show
from tiercache.config._values import RefusedPart
from tiercache.config._variables import VariableError, expand

__all__ = [
    "check_foreign",
    "is_path",
    "named",
    "names_of",
    "paths_of",
    "said",
    "sound",
    "takes",
    "type_of",
    "validate",
]

M = TypeVar("M", bound=Options)

#: What somebody else's tier or codec is registered as, in the place of the name that it is given there.
_CLASS = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def type_of(
    content: Mapping[Any, Any],
    problems: Problems,
    path: str,
    *,
    known: Callable[[], Iterable[str]],
    is_known: Callable[[str], bool],
    meant: Callable[[str, Iterable[str]], str | None],
    options: Iterable[type[Options]],
    register: str,
) -> tuple[str | None, dict[Any, Any]]:
    """The type that ``content`` names, and its other options. What is wrong with it is added to ``problems``;
    where the type, or the word "type", is a slip of one, that one is meant, so that the rest is checked too.

    ``known``: the types that there are, of which a slip is told by ``meant``; ``options``: those that the
    types of ours have, of which none is a slip; ``register`` makes a class a type.
    """
    keys = ["type"]
    if "type" not in content:
        words = {"type", *(one for model in options for one in _fields(model))}
        keys = [key for key in content if isinstance(key, str) and close(key, words) == "type"]
        for key in keys:
            problems.add(join(path, key), f"is not known{hint('type')}")
    rest = {key: value for key, value in content.items() if key not in keys}
    if not keys:
        problems.add(join(path, "type"), f"is missing; allowed: {_listed(known())}")
        return None, rest
    where, kind = join(path, keys[0]), content[keys[0]]
    try:
        kind = expand(kind) if isinstance(kind, str) else kind
    except VariableError as error:
        problems.add(where, str(error))
        return None, rest
    if isinstance(kind, str) and is_known(kind):
        return kind, rest
    if isinstance(kind, str) and _CLASS.fullmatch(kind):
        guess, told = None, f"; {register} gives a name to a class"
    elif kind is None and is_known("null"):  # as YAML reads that name
        guess, told = "null", '; put "null" in quotes'
    else:
        guess = meant(kind, known()) if isinstance(kind, str) else None
        told = hint(guess)
    problems.add(where, f"found {show(content[keys[0]], is_type=True)}; allowed: {_listed(known())}{told}")
    return guess, rest


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def validate(
    model: type[M],
    content: Mapping[Any, Any],
    problems: Problems,
    path: str,
    besides: Iterable[str] = (),
) -> M | None:
    """``content`` as ``model``; ``None`` when there are problems, which were added then. ``besides``: options
    that somebody else reads, of which none is a slip."""
    names = _fields(model)
    # Not left to pydantic, which does not say which key it was where that is no Unicode text.
    unknown = [key for key in content if key not in names]
    for key in unknown:
        problems.add(join(path, key), _unknown(key, names, besides))
    try:
        options = model.model_validate({key: value for key, value in content.items() if key in names})
    except ValidationError as error:
        found = error.errors(include_url=False)
    else:
        return None if unknown else options
    for one in found:
        problems.add(join(path, one["loc"][0]), _problem(one, names))
    return None


def sound(model: type[M], content: Mapping[Any, Any]) -> M | None:
    """Those of the options in ``content`` that are in order by themselves, whatever the others are; ``None``
    where one of them is missing that must be given."""
    given: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        for alias in names_of(name, field):
            if alias in content:
                with suppress(ValueError):  # it was told
                    given[name] = kind_of(field).check(content[alias])
    if any(field.is_required() and name not in given for name, field in model.model_fields.items()):
        return None
    return model.model_construct(set(given), **given)


def _fields(model: type[Options]) -> dict[str, FieldInfo]:
    """The fields of ``model`` by what they are called in a configuration, each by all of its names."""
    return {alias: field for name, field in model.model_fields.items() for alias in names_of(name, field)}


def names_of(name: str, field: FieldInfo) -> list[str]:
    """What the field called ``name`` is called in a configuration."""
    alias = field.validation_alias
    return [str(choice) for choice in alias.choices] if isinstance(alias, AliasChoices) else [name]


def _unknown(key: object, known: Iterable[str], besides: Iterable[str] = ()) -> str:
    hint = nearest(key, known) if isinstance(key, str) else ""
    return f"is not known; allowed: {', '.join((*known, *besides))}{hint}"


def _problem(error: Any, names: Mapping[str, FieldInfo]) -> str:
    """What an error of pydantic's means, by the names that the model's fields go by."""
    name = error["loc"][0]
    field = names[name]
    if error["type"] == "missing":
        return f"is missing; give {kind_of(field).allowed_now}"
    if error["type"] == "extra_forbidden":  # a known name: the field was given by its other one
        other = next(other for other in names if names[other] is field and other != name)
        return f'is the same option as "{other}", which is given too; give one of them'
    reason = error["ctx"]["error"]
    if isinstance(reason, VariableError | RefusedPart):
        return str(reason)
    kind = kind_of(field)
    shown = "a value that is not shown" if kind.hidden else show(error["input"], is_url=kind.is_url)
    return f"found {shown}; allowed: {reason}"


def named(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of ``make`` that can be given by name."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except ValueError:  # written in C, and not telling
        return {}
    return {one.name: one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}


def takes(make: Callable[..., Any], name: str) -> bool:
    """Whether ``make`` has a parameter of that name, or takes any."""
    return name in named(make) or _takes_any(make)


def _takes_any(make: Callable[..., Any]) -> bool:
    try:
        return any(one.kind is one.VAR_KEYWORD for one in inspect.signature(make).parameters.values())
    except ValueError:
        return True


#: Annotations of parameters that are paths.
_PATH = re.compile(r"\b(?:Str|Pure|File|Directory)?Path(?:Like)?\b")
_NONE = re.compile(r"\b(?:None|Optional)\b")


def paths_of(make: Callable[..., Any]) -> dict[str, bool]:
    """The parameters of ``make`` that are annotated as paths, and whether each may be ``None``."""
    found = {name: inspect.formatannotation(one.annotation) for name, one in named(make).items()}
    return {name: bool(_NONE.search(text)) for name, text in found.items() if _PATH.search(text)}


def check_foreign(
    make: Callable[..., Any],
    content: Mapping[Any, Any],
    folder: Path | None,
    problems: Problems,
    path: str,
    besides: Iterable[str] = (),
) -> dict[str, Any] | None:
    """The arguments for ``make`` in ``content``, with variables expanded, their names held against its
    parameters; ``None`` when there are problems, which were added then. Values are its own affair, but those
    that are paths by its annotations: it is given a `Path`, and relative ones begin at ``folder``.
    ``besides``: options that somebody else reads."""
    known, takes_any, paths = named(make), _takes_any(make), paths_of(make)
    given: dict[str, Any] = {}
    wrong = False
    for key, value in content.items():
        if not isinstance(key, str) or (key not in known and not takes_any):
            problems.add(join(path, key), _unknown(key, dict.fromkeys((*known, *besides))))
            wrong = True
            continue
        try:
            given[key] = _expanded(value)
            if key in paths:
                given[key] = _begun(given[key], folder, optional=paths[key])
        except VariableError as error:
            problems.add(join(path, key), str(error))
            wrong = True
        except RuntimeError:
            problems.add(join(path, key), f"found {show(value)}; allowed: a path, in which the home is known")
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


def is_path(text: str) -> bool:
    """Whether ``text`` is a path, and no URL or name such as ":memory:" in the place of one."""
    return bool(text) and "://" not in text and not text.startswith(":")


def _begun(value: Any, folder: Path | None, *, optional: bool) -> Any:
    if isinstance(value, list):
        return [_begun(one, folder, optional=False) for one in value]
    if not isinstance(value, str) or not is_path(value):
        return value
    return None if optional and value == "none" else (folder or Path()) / Path(value).expanduser()


def said(error: Exception) -> str:
    """What a constructor that raised ``error`` says is wrong. What is no error about arguments may be a
    defect: then its kind, and where it is, are told too."""
    text = str(error)
    if isinstance(error, ValueError | TypeError | OSError):
        return text or type(error).__name__
    place = extract_tb(error.__traceback__)[-1]
    told = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{told} ({Path(place.filename).name}, line {place.lineno})"
