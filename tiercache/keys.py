"""Namespaces: how a user's key and its namespace become the one key that a shared tier sees.

The rule is injective, so that no two pairs of namespace and key can run into each other:

* namespace ``""`` (the default): the key as it is, unless it begins with the reserved marker;
* any other: the marker, each name of the path as ``<length>:<name>``, a slash, and the key.

A namespace is a path, because a view's namespace lies inside its parent's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from tiercache.errors import ConfigError

if TYPE_CHECKING:
    from tiercache.prompt_keys import PrefixDifference, explain_prefix, prompt_key

__all__ = ["MARKER", "KeyRange", "Namespace", "PrefixDifference", "explain_prefix", "placed", "prompt_key"]

#: Begins every folded key. A control character: rare in real keys, and harmless to every backend.
MARKER: Final = "\x1ftc:"

_LENGTH = re.compile(r"(\d{1,9}):", re.ASCII)

#: A prefix, and a longer prefix to leave out ("" leaves out nothing).
KeyRange = tuple[str, str]


class Namespace:
    """One namespace: folds keys in, unfolds them out, and names the key ranges it owns.

    ``generation`` tells one life of the namespace from the next on a tier that can neither clear nor
    scan: entries of an earlier generation have keys that nobody asks for again.
    """

    __slots__ = ("_prefix", "generation", "path")

    def __init__(self, path: tuple[str, ...], generation: int = 0) -> None:
        for name in path:
            if not isinstance(name, str):
                raise ConfigError(f"namespace: {name!r} is not a str")
        self.path = path
        self.generation = generation
        names = "" if path == ("",) else "".join(f"{len(name)}:{name}" for name in path)
        age = f"g{generation}" if generation else ""
        self._prefix = "" if not names and not age else f"{MARKER}{names}{age}/"

    def __repr__(self) -> str:
        return f"Namespace({self.path!r})"

    def child(self, name: str) -> Namespace:
        """The namespace of a view called ``name`` inside this one."""
        return Namespace((*self.path, name))

    def next_generation(self, generation: int) -> Namespace:
        """The same namespace with every entry of earlier generations out of reach."""
        return Namespace(self.path, generation)

    def fold(self, key: str) -> str:
        """The key that a shared tier sees for ``key``."""
        if self._prefix:
            return self._prefix + key
        return f"{MARKER}/{key}" if key.startswith(MARKER) else key

    def fold_all(self, keys: Sequence[str]) -> Sequence[str]:
        """`fold` for each of ``keys``; the very same sequence where that changes none of them."""
        if self._prefix:
            prefix = self._prefix
            return [prefix + key for key in keys]
        if MARKER in "".join(keys):  # one search instead of a thousand; a false alarm only costs time
            return [self.fold(key) for key in keys]
        return keys

    def unfold(self, folded: str) -> str:
        """The user's key in ``folded``, which must lie in one of `ranges`."""
        if self._prefix:
            return folded[len(self._prefix) :]
        return folded[len(MARKER) + 1 :] if folded.startswith(MARKER) else folded

    def ranges(self, prefix: str = "", skip: str = "") -> list[KeyRange]:
        """The ranges of folded keys that hold this namespace's keys beginning with ``prefix`` and not
        with ``skip`` ("" skips nothing; else it begins with ``prefix``, or is `MARKER`)."""
        if self._prefix:
            return [(self._prefix + prefix, self._prefix + skip if skip else "")]
        found: list[KeyRange] = []
        if not prefix.startswith(MARKER):
            found.append((prefix, MARKER if MARKER.startswith(prefix) else skip))
        if (MARKER.startswith(prefix) or prefix.startswith(MARKER)) and not (
            skip and (prefix.startswith(skip) or MARKER.startswith(skip))
        ):
            found.append((f"{MARKER}/{prefix}", f"{MARKER}/{skip}" if skip.startswith(MARKER) else ""))
        return found

    def tree(self) -> list[KeyRange]:
        """The ranges of folded keys that hold what is in this namespace and in all that are nested in it."""
        if self.path == ("",):
            return [*self.ranges(), (f"{MARKER}0:", "")]
        names = "".join(f"{len(name)}:{name}" for name in self.path)
        return [(f"{MARKER}{names}", "")]


def placed(folded: str) -> tuple[tuple[str, ...], str] | None:
    """The path of the namespace and the user's key in ``folded``; ``None`` for what `Namespace.fold` does not
    make without a generation."""
    if not folded.startswith(MARKER):
        return ("",), folded
    path: list[str] = []
    place = len(MARKER)
    while (size := _LENGTH.match(folded, place)) is not None:
        place = size.end() + int(size[1])
        path.append(folded[size.end() : place])
    if folded[place : place + 1] != "/":
        return None
    return tuple(path) or ("",), folded[place + 1 :]


def __getattr__(name: str) -> Any:
    if name in {"PrefixDifference", "explain_prefix", "prompt_key"}:
        from tiercache import prompt_keys  # here, because few need it

        return getattr(prompt_keys, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
