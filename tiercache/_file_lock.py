"""A lock of a file, waited for so long and no longer."""

from __future__ import annotations

import fcntl
from time import monotonic, sleep
from typing import Final

__all__ = ["wait_for_lock"]

_PAUSE: Final = 0.002  # seconds between two tries; these locks are held for milliseconds


def wait_for_lock(handle: int, kind: int, end: float, message: str) -> None:
    """Lock the file ``handle``. Raises `TimeoutError` with ``message`` if others have it until ``end``."""
    while True:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if monotonic() >= end:
                raise TimeoutError(message) from None
            sleep(_PAUSE)
        else:
            return
