"""What of a tier's answer is worth having: no entry that is expired, and nothing that is no entry.

A tier of somebody else may hand out anything. What gets past this has times that can be compared with others
and a size that can be added up: nothing behind it has to ask again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any, Final

from tiercache.entry import Entry, Sliding
from tiercache.errors import TierError

__all__ = ["alive", "sound"]

_TIMES: Final = frozenset({float, int, type(None)})
_SIZES: Final = frozenset({int, type(None)})


def sound(
    answer: Any, keys: Sequence[str], now: float, *, tier: str, ours: bool = False
) -> tuple[dict[str, Entry[Any]], int, list[str]]:
    """What ``tier`` found under ``keys``: the entries that are alive at ``now``; how many were expired; under
    which keys there was garbage. Raises `TierError` if ``answer`` is no answer at all.

    ``ours``: it is memory, where everything came past this, or from the chain itself, and which gives none
    that is expired: by the monotonic clock, which is not set.
    """
    if not isinstance(answer, Mapping):
        raise TierError(f"mget returned {type(answer).__name__}, not a dict of entries", tier=tier)
    found: dict[str, Entry[Any]] = {}
    expired = 0
    garbage: list[str] = []
    for key in keys:
        entry = answer.get(key)
        if entry is None:
            continue
        if not ours and not _is_whole(entry):
            garbage.append(key)
        elif ours or entry.expires_at is None or entry.expires_at > now:
            found[key] = entry
        else:
            expired += 1
    return found, expired, garbage


def alive(answer: dict[str, Entry[Any]], now: float) -> tuple[dict[str, Entry[Any]], int]:
    """The same of a tier that has verified its entries, and whose answer holds what was asked for alone: it
    is all of the work, and the other is a tenth of a read from disk."""
    late = [
        key
        for key, entry in answer.items()
        if entry.expires_at is not None and not entry.expires_at > now  # so that NaN is late too
    ]
    for key in late:
        del answer[key]
    return answer, len(late)


def _is_whole(entry: Any) -> bool:
    try:
        expires_at, created_at, fresh_until = entry.expires_at, entry.created_at, entry.fresh_until
        return (
            isinstance(entry, Entry)
            and entry.value is not None
            # By their very types, which takes a third of the time of the question after it.
            and (
                (type(expires_at) in _TIMES and type(created_at) in _TIMES and type(fresh_until) in _TIMES)
                or all(map(_is_time, (expires_at, created_at, fresh_until)))
            )
            and expires_at == expires_at  # noqa: PLR0124 - NaN is no time, and compares with none
            and created_at == created_at  # noqa: PLR0124 - the same
            and fresh_until == fresh_until  # noqa: PLR0124 - the same
            and type(entry.size) in _SIZES
            and (entry.sliding is None or _is_sliding(entry.sliding))
        )
    except AttributeError:
        return False


def _is_sliding(sliding: Any) -> bool:
    return (
        isinstance(sliding, Sliding)
        and all(isinstance(one, int | float) and one > 0 for one in sliding)  # and no NaN
        and sliding.period != inf
    )


def _is_time(time: Any) -> bool:
    return time is None or (isinstance(time, int | float) and not isinstance(time, bool))
