"""The public names of the package, and under which ids a page may have each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import tiercache

PACKAGE = Path(tiercache.__file__).parent

#: Modules and names without an underscore that are for ours, each with the reason.
INSIDE = {
    "tiercache.cli": "the command has pages of its own",
    "tiercache.forks": "what our own tiers and chains do at a fork",
    "tiercache.loading.LoadingMethods": "its methods are those of `TieredCache`",
    "tiercache.registry": "users call `register_tier` and `register_codec`, which the package itself offers",
    "tiercache.shared_stats": "the file behind `tiercache stats`",
    "tiercache.sqlite_gate": "what our own tiers do at a fork",
    "tiercache.watchdog": "what ends our own calls of SQLite",
}
#: Packages that offer what is in their modules.
_OFFERED = ("tiercache.codecs.", "tiercache.spending.", "tiercache.testing.")


def modules() -> list[str]:
    """The public modules, but not those whose package offers all that is theirs."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        name = ".".join(parts)
        outer = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        private = any(part.startswith("_") for part in parts) or any(one in INSIDE for one in outer)
        if not private and not name.startswith(_OFFERED):
            found.append(name)
    return found


def names() -> Iterator[tuple[str, str, Any]]:
    """Module, name and object of all that ``__all__`` lists."""
    for module in modules():
        loaded = import_module(module)
        for name in getattr(loaded, "__all__", ()):
            yield module, name, getattr(loaded, name)


def ids(module: str, name: str, found: Any) -> set[str]:
    """Where it may stand on a page: where it is defined, and wherever else the same object is public."""
    home = getattr(found, "__module__", None)
    paths = {f"{module}.{name}"}
    if isinstance(home, str) and hasattr(found, "__qualname__"):
        paths.add(f"{home}.{found.__qualname__}")
    for other, one in list(sys.modules.items()):
        if other.split(".")[0] == "tiercache" and one is not None and vars(one).get(name) is found:
            paths.add(f"{other}.{name}")
    return paths
