"""What is said once of a loader whose work is lost: that what it makes is paid for each time, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Told", "loader_name"]

#: A program that makes functions without end is told of so many.
_MOST = 1000


class Told:
    """What a chain has said already. Thread-safe."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], object] = {}

    def first(self, what: str, loader: str) -> bool:
        """Whether ``what`` is yet to be said of ``loader``; from now on it is not."""
        mark = object()
        return len(self._told) < _MOST and self._told.setdefault((what, loader), mark) is mark


def loader_name(loader: Callable[..., Any]) -> str:
    """What to call ``loader`` in the log: its function's name, or that of the function that is cached."""
    from tiercache.call_keys import function_name  # it needs inspect

    try:
        return function_name(_cached_function(loader))
    except Exception:  # noqa: BLE001 - whatever can be called: the value was paid for, and must not be lost
        return type(loader).__name__


def _cached_function(loader: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose results ``loader`` makes, where that is `cached`; any other loader itself. Looked
    for behind the call's own closure, so that a hit pays nothing for it."""
    import inspect

    from tiercache._loading.gathered import Gathered
    from tiercache._loading.sending import MEMOIZE

    loader = inspect.unwrap(loader)
    gathered = getattr(loader, "__self__", None)
    if isinstance(gathered, Gathered):
        return gathered.of.function
    if getattr(loader, "__module__", None) != MEMOIZE:
        return loader
    function: Callable[..., Any] = inspect.getclosurevars(loader).nonlocals["function"]
    return function
