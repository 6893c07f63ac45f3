"""`SpyTier`: a tier that remembers what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tiercache.testing.reference import DictTier
from tiercache.testing.wrapping import WrappedTier

__all__ = ["Call", "SpyTier"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call: ``verb`` is ``"mget"`` for `mget` and `amget`; ``keys`` in the order given (none for verbs
    without)."""

    verb: str
    keys: tuple[str, ...] = ()
    asynchronous: bool = False


class SpyTier(WrappedTier):
    """Records every call before it passes it on to ``tier`` (by default a `DictTier` of its own).

    It can do what ``tier`` can, except `SupportsNamespaces`. Thread-safe: `calls` is in the order in which
    calls arrived.
    """

    def __init__(self, tier: Any = None) -> None:
        super().__init__(DictTier() if tier is None else tier)
        self._lock = threading.Lock()
        self._calls: list[Call] = []

    @property
    def calls(self) -> list[Call]:
        """A copy of the record."""
        with self._lock:
            return list(self._calls)

    def count(self, verb: str) -> int:
        """How many calls of ``verb`` there were, blocking and async together."""
        return sum(call.verb == verb for call in self.calls)

    def keys(self, verb: str) -> list[str]:
        """The keys of every call of ``verb``, one after another."""
        return [key for call in self.calls if call.verb == verb for key in call.keys]

    def reset(self) -> None:
        """Forget the calls so far."""
        with self._lock:
            self._calls.clear()

    def _call(self, _verb: str, _method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        self._record(_verb, args, asynchronous=False)
        return super()._call(_verb, _method, *args, **options)

    async def _acall(
        self, _verb: str, _method: Callable[..., Awaitable[Any]], /, *args: Any, **options: Any
    ) -> Any:
        self._record(_verb, args, asynchronous=True)
        return await super()._acall(_verb, _method, *args, **options)

    def _record(self, verb: str, args: tuple[Any, ...], *, asynchronous: bool) -> None:
        keys = tuple(args[0]) if verb in {"mget", "mset", "mdelete"} else ()
        with self._lock:
            self._calls.append(Call(verb, keys, asynchronous))
