"""What the parameters of a handler and of all its dependencies say of a response: by which headers it
differs, and whether that can be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, get_args

from fastapi.dependencies.utils import get_dependant
from fastapi.security.base import SecurityBase
from pydantic import AliasChoices, AliasPath, BaseModel

__all__ = ["Declared", "declared"]

Overrides: TypeAlias = Mapping[Callable[..., Any], Callable[..., Any]]
_NONE: Overrides = {}


@dataclass(frozen=True, slots=True)
class Declared:
    """``headers``: those that parameters come from, in small letters, ``cookie`` among them if one is a
    cookie. ``unbounded``: one takes headers of any name. ``secured``: a dependency is a scheme of security,
    or asks for scopes."""

    headers: frozenset[str]
    unbounded: bool
    secured: bool


def declared(dependant: Any, overrides: Overrides = _NONE) -> Declared:
    """Of a handler, as FastAPI has it, and of what stands in for its dependencies by ``overrides``."""
    tree = list(_tree(dependant, overrides))
    names: set[str] = set()
    unbounded = False
    for node in tree:
        for param in node.header_params:
            names.update(_names(param))
            for model in _models(param.field_info.annotation):
                unbounded = unbounded or model.model_config.get("extra") == "allow"
                for name, field in model.model_fields.items():
                    names.update((name, *_names(field)))
        if node.cookie_params:
            names.add("cookie")  # all of them: a cache behind us can tell no more by Vary
    # FastAPI takes underscores for hyphens, unless told otherwise: one header too many does no harm.
    headers = {name.lower() for name in names} | {name.lower().replace("_", "-") for name in names}
    return Declared(frozenset(headers), unbounded, any(_is_secured(node) for node in tree))


def _tree(dependant: Any, overrides: Overrides) -> Iterator[Any]:
    """``dependant`` and all that it depends on, by itself and by ``overrides``."""
    yield dependant
    for inner in dependant.dependencies:
        yield from _tree(inner, overrides)
        if inner.call in overrides:
            # Inside of it, it stands in for nothing: what it depends on may depend by itself on what it is
            # in the place of.
            others = {call: one for call, one in overrides.items() if call != inner.call}
            yield from _tree(get_dependant(path=inner.path or "/", call=overrides[inner.call]), others)


def _names(field: Any) -> Iterator[str]:
    """The names that a parameter, or a field of a model, may have in a request."""
    field = getattr(field, "field_info", field)
    if field.alias:
        yield field.alias
    alias = field.validation_alias
    for one in alias.choices if isinstance(alias, AliasChoices) else [alias]:
        name = one.path[0] if isinstance(one, AliasPath) else one
        if isinstance(name, str):
            yield name


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in the type of a parameter, also of a union: their fields are parameters."""
    if isinstance(annotation, type) and not get_args(annotation):
        if issubclass(annotation, BaseModel):
            yield annotation
        return
    for inner in get_args(annotation):
        yield from _models(inner)


def _is_secured(node: Any) -> bool:
    call = node.call
    while isinstance(call, partial):
        call = call.func
    # Older versions have the scopes of a dependency and of those above it in one list.
    scopes = getattr(node, "own_oauth_scopes", None) or getattr(node, "security_scopes", None)
    return bool(scopes) or isinstance(getattr(call, "__self__", call), SecurityBase)
