"""`WrappedTier`: passes every call on to another tier or byte store, by way of one method to override."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Any

from tiercache.protocols import CAPABILITIES

__all__ = ["WrappedTier"]

_VERBS = ("mget", "mset", "mdelete", "close", *CAPABILITIES)
_PLAIN = ("size", "counters", "copy", "stores_bytes", "ttl", "domains", "failure")


class WrappedTier:
    """Does what ``tier`` (a tier, async tier or byte store) can do, and nothing else.

    The methods are attributes of the instance, not of the class: ``isinstance`` with a capability's
    protocol must answer for the wrapped tier, and a ``__getattr__`` would not be seen by it. Only
    `SupportsNamespaces` is left out: the chain's fast road into a memory tier would go past the wrapper.
    """

    # For type checkers; what of it exists is up to the wrapped tier.
    mget: Any
    mset: Any
    mdelete: Any
    close: Any
    peek: Any
    lengths: Any
    scan: Any
    clear: Any
    purge: Any
    acquire: Any
    release: Any
    amget: Any
    amset: Any
    amdelete: Any
    aclose: Any
    apeek: Any
    alengths: Any
    ascan: Any
    aclear: Any
    apurge: Any
    aacquire: Any
    arelease: Any

    def __init__(self, tier: Any) -> None:
        self.tier = tier
        self.name: str = getattr(tier, "name", None) or type(tier).__name__.lower()
        for verb in _VERBS:
            if hasattr(tier, verb):
                setattr(self, verb, partial(self._call, verb, getattr(tier, verb)))
            if hasattr(tier, f"a{verb}"):
                setattr(self, f"a{verb}", partial(self._acall, verb, getattr(tier, f"a{verb}")))
        for name in _PLAIN:
            if hasattr(tier, name):
                setattr(self, name, getattr(tier, name))
        #: What holds the entries is the wrapped tier, however often it is wrapped.
        self.location: Hashable = getattr(tier, "location", tier)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tier!r})"

    def _call(self, _verb: str, _method: Callable[..., Any], /, *args: Any, **options: Any) -> Any:
        return _method(*args, **options)

    async def _acall(
        self, _verb: str, _method: Callable[..., Awaitable[Any]], /, *args: Any, **options: Any
    ) -> Any:
        return await _method(*args, **options)
