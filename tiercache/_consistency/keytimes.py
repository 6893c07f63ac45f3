"""Keys that something holds of until some time: a bounded table."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

__all__ = ["KeyTimes"]


class KeyTimes:
    """Keys, each with a monotonic time and a mark. At most ``most`` of them: the oldest notes are forgotten
    first. Thread-safe; a look takes no lock."""

    def __init__(self, most: int = 10_000) -> None:
        self._most = most
        self._lock = threading.Lock()
        #: For who only wants to know if there are any.
        self.notes: dict[str, tuple[float, Any]] = {}

    def __len__(self) -> int:
        return len(self.notes)

    def note(self, key: str, until: float, mark: Any) -> None:
        """``mark`` holds of ``key`` before the time ``until``."""
        with self._lock:
            self.notes.pop(key, None)  # so that it is the newest
            while len(self.notes) >= self._most:
                del self.notes[next(iter(self.notes))]
            self.notes[key] = until, mark

    def find(self, key: str) -> tuple[float, Any]:
        """The time and the mark of ``key``, whether it has passed or not; ``(-inf, None)`` without any."""
        return self.notes.get(key, _NOTHING)

    def drop(self, keys: Iterable[str] | None = None) -> None:
        """Forget ``keys``; ``None``: all of them."""
        if not self.notes:
            return
        with self._lock:
            if keys is None:
                self.notes.clear()
            else:
                for key in keys:
                    self.notes.pop(key, None)


_NOTHING = (float("-inf"), None)
