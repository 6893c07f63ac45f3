"""What loaders tell of themselves: what they send for their keys, and how several of them become one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

__all__ = ["Joint", "joint", "joint_of", "sent"]

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
    """What the loader sends for ``keys``, as far as anybody knows."""
    loader = getattr(load_many, "__wrapped__", None)
    told = joint_of(loader)
    if told is not None:
        return told.texts(loader, keys)
    from tiercache.memoize import sent_by  # it needs inspect

    texts = None if loader is None else sent_by(loader)
    return keys if texts is None else texts
