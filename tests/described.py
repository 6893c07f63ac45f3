"""What a chain was made with, to tell whether two are equal."""

from __future__ import annotations

from dataclasses import is_dataclass
from pathlib import Path


def options_of(thing):
    """What a tier was made with, as far as it is plain: its own settings, its store's and its plans'."""
    found = {"repr": repr(thing)} if type(thing).__repr__ is not object.__repr__ else {}
    for name, value in vars(thing).items():
        if name in ("store", "_plans", "_store", "_database"):
            found[name] = options_of(value)
        elif not name.endswith("_at") and (  # when it was made is no option
            value is None or isinstance(value, str | int | float | Path | bytes) or is_dataclass(value)
        ):
            found[name] = value
    return type(thing).__name__, found


def described(cache):
    """What a chain was made with; equal for equal chains."""
    members = []
    for guard in cache._stack.guards:
        tier = guard.tier
        inner = getattr(tier, "_core", None)
        members.append((guard.name, options_of(tier) if inner is None else (inner.path, inner.codec)))
    return cache._core.path, cache._core.codec, cache._ttl, cache._stack.promote_inline, members
