"""What loaders tell of themselves: what they send for their keys, and how several of them become one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

from tiercache.tokens import texts_in

__all__ = ["MEMOIZE", "Joint", "joint", "joint_of", "sent"]

#: Where the loaders of functions that are `cached` are made.
MEMOIZE = "tiercache.memoize"
#: Among the attributes of a loader's function; of a method, those of all its objects.
_JOINT = "_tiercache_joint"


class Joint(NamedTuple):
    """How loaders that know more than their keys are batched. Each function takes loaders.

    ``group``: loads by those that have the same one may be batched; ``None``: this one goes by itself.
    ``join``: one loader for all of several, each with its keys. ``texts``: what one sends for its keys.
    """

    group: Callable[[Any], Hashable]
    join: Callable[[Sequence[tuple[Any, list[str]]]], Callable[[list[str]], Any]]
    texts: Callable[[Any, Sequence[str]], Sequence[str]]


def joint(function: Callable[..., Any], told: Joint) -> None:
    """Note that loaders by ``function`` are batched as ``told``."""
    function.__dict__[_JOINT] = told


def joint_of(loader: Any) -> Joint | None:
    """What was noted of ``loader``."""
    return getattr(loader, "__dict__", {}).get(_JOINT)


def sent(load_many: Callable[..., Any], keys: Sequence[str]) -> Sequence[str]:
    """What the loader sends for ``keys``, as far as anybody knows: of a function that is `cached` its
    arguments. They are looked for here, and not noted before each call: that would be paid by hits."""
    loader = getattr(load_many, "__wrapped__", None)
    told = joint_of(loader)
    if told is not None:
        return told.texts(loader, keys)
    arguments = None if loader is None else _cached_arguments(loader)
    return keys if arguments is None else list(texts_in(arguments))


def _cached_arguments(loader: Callable[..., Any]) -> list[Any] | None:
    """What the function was called with whose result ``loader`` makes, where that is `cached`; ``None`` for
    any other loader."""
    import inspect

    if getattr(loader, "__module__", None) != MEMOIZE or not inspect.isfunction(loader):
        return None
    inside = inspect.getclosurevars(loader).nonlocals
    return [inside["args"], inside["kwargs"]]
