"""What a loader sends for its keys, where that is something else: for who counts its tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["sending", "sent"]

#: Among the attributes of a loader's function.
_SENDS = "_tiercache_sends"


def sending(loader: Callable[..., Any], texts: Callable[[], list[str]]) -> None:
    """Note that ``texts()`` are what ``loader`` sends: where tokens are counted, they are those of these, and
    not of its keys."""
    loader.__dict__[_SENDS] = texts


def sent(load_many: Callable[..., Any], keys: Sequence[str]) -> Sequence[str]:
    """What the loader sends for ``keys``, as far as anybody knows."""
    loader = getattr(load_many, "__wrapped__", None)
    texts = getattr(loader, "__dict__", {}).get(_SENDS)
    return keys if texts is None else texts()
