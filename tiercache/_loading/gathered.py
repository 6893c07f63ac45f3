"""`Gathered`: the loader of a function of a list that is `cached` for callers who each give one of its items.

It knows more than its keys: what each of them stands for. So it tells how several become one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

from tiercache._loading.sending import Joint, joint
from tiercache.tokens import texts_in

__all__ = ["Gathered", "Many"]


class Many:
    """One decorated ``function``; ``none`` is kept in the place of its ``None``, if anything is."""

    __slots__ = ("function", "none")

    def __init__(self, function: Callable[[list[Any]], Any], none: Any) -> None:
        self.function = function
        self.none = none

    def results(self, items: list[Any], given: Any) -> Any:
        """What the function ``given`` for ``items``, as a loader gives it: in their order."""
        if isinstance(given, Mapping):
            given = [given.get(item) for item in items]
        elif isinstance(given, str | bytes | AbstractSet) or not hasattr(given, "__iter__"):
            return given  # who checks what loaders give says what is wrong
        return [self.none if one is None else one for one in given]


class Gathered:
    """A loader by ``of``: ``items`` are what the keys stand for."""

    __slots__ = ("items", "of")

    def __init__(self, of: Many, items: dict[str, Any]) -> None:
        self.of = of
        self.items = items

    def load(self, keys: list[str]) -> Any:
        """For `Batched`."""
        items = [self.items[key] for key in keys]
        return self.of.results(items, self.of.function(items))

    async def aload(self, keys: list[str]) -> Any:
        """The same, of an async function."""
        items = [self.items[key] for key in keys]
        return self.of.results(items, await self.of.function(items))


def _group(loader: Any) -> Hashable:
    of: Many = loader.__self__.of
    return of


def _join(loaders: Sequence[tuple[Any, list[str]]]) -> Callable[[list[str]], Any]:
    first = loaders[0][0]
    items = {key: loader.__self__.items[key] for loader, keys in loaders for key in keys}
    return first.__func__.__get__(Gathered(first.__self__.of, items))  # type: ignore[no-any-return]  # bound


def _texts(loader: Any, keys: Sequence[str]) -> Sequence[str]:
    return list(texts_in([loader.__self__.items[key] for key in keys]))


for _loader in (Gathered.load, Gathered.aload):
    joint(_loader, Joint(_group, _join, _texts))
