"""Checks what users pass in, and says what was wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from tiercache._log import logger
from tiercache.errors import ConfigError
from tiercache.protocols import Codec

__all__ = [
    "as_keys",
    "check_batch_size",
    "check_codec",
    "check_items",
    "check_key",
    "check_keys",
    "check_tiers",
]

T = TypeVar("T")

_TEXT, _NONE = frozenset({str}), type(None)


def check_key(key: object, what: str = "a key") -> None:
    """Raise `TypeError` for a key, or ``what`` it is, that is no str."""
    if not isinstance(key, str):
        raise TypeError(f"{what} must be a str, not {type(key).__name__}: {key!r:.60}")


def as_keys(keys: Sequence[str]) -> Sequence[str]:
    """``keys`` as a list or tuple, so that it can be gone through twice."""
    if isinstance(keys, list | tuple):
        return keys
    if isinstance(keys, str | bytes):
        raise TypeError(f"keys must be a sequence of str, not one {type(keys).__name__}")
    return list(keys)


def check_keys(keys: Sequence[object]) -> list[str]:
    """``keys`` without duplicates, in first-seen order. Raises `TypeError` for one that is no str."""
    for key in keys:
        if not isinstance(key, str):
            check_key(key)
    return list(dict.fromkeys(keys))  # type: ignore[arg-type]  # all of them were checked


def check_items(items: Mapping[str, T] | Iterable[tuple[str, T]]) -> dict[str, T]:
    """``items`` as a dict. Raises `TypeError` for what is no pair, a key that is no str, or ``None``."""
    if type(items) is dict and _TEXT.issuperset(map(type, items)) and _NONE not in map(type, items.values()):
        return items.copy()  # nothing is wrong, in a third of the time that it takes to tell what is
    pairs: Any = items.items() if isinstance(items, Mapping) else items
    if not isinstance(pairs, Iterable):
        raise TypeError(f"items must be a mapping or an iterable of pairs, not {type(items).__name__}")
    values: dict[str, T] = {}
    for pair in pairs:
        # Not whatever can be unpacked into two: the text "ab" would be the key "a" with the value "b".
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"items must be pairs of key and value; a {type(pair).__name__} is none")
        key, value = pair
        if not isinstance(key, str):
            check_key(key)
        if value is None:
            raise TypeError(f"None is not a value (it means a miss); key {key!r:.60}")
        values[key] = value
    return values


def check_codec(codec: object) -> None:
    """Raise `TypeError` for what is neither a codec nor ``None``."""
    if isinstance(codec, type) or not (codec is None or isinstance(codec, Codec)):
        # Text is not repeated: it may be a key that was meant for a codec.
        found = f"a {type(codec).__name__}" if isinstance(codec, str | bytes) else f"{codec!r:.60}"
        raise TypeError(
            f"codec: {found} is no codec; it must be an object with name, encode and decode, "
            f"for instance JSONCodec() from tiercache.codecs"
        )


def check_batch_size(batch_size: object) -> None:
    """Raise `ConfigError` for what is neither a positive int nor ``None``."""
    if batch_size is not None and (
        not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size < 1
    ):
        raise ConfigError(f"batch_size: {batch_size!r} is not allowed; it must be a whole number above zero")


def check_tiers(tiers: object) -> None:
    """Raise `ConfigError` for what is no list of tiers. An order that can hardly be meant is logged."""
    if not isinstance(tiers, Sequence) or isinstance(tiers, str | bytes):
        raise ConfigError(f"tiers: give a list of tiers, the fastest first, not a {type(tiers).__name__}")
    if len(tiers) > 1 and any(getattr(tier, "holds_nothing", False) for tier in tiers):
        raise ConfigError(
            "tiers: a null tier turns a cache off as its only tier; leave it out beside others, or those out"
        )
    for above, below in pairwise(tiers):
        if getattr(above, "stores_bytes", False) and getattr(below, "nonblocking", False):
            logger().warning(
                "tiers: %s stands below %s, which is slower, and is asked only for what that misses; "
                "list the fastest first",
                type(below).__name__,
                type(above).__name__,
            )
