"""`FakeClock`: time that passes only when a test says so."""

from __future__ import annotations

import threading

__all__ = ["FakeClock"]


class FakeClock:
    """A `Clock` with hands to turn. Both clocks stand still between calls. Thread-safe.

    ``start`` is what `time` says first, in Unix seconds. `monotonic` begins at another value, so that a
    mix-up of the two shows.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._lock = threading.Lock()
        self._wall = start
        self._monotonic = 5_000.0

    def __repr__(self) -> str:
        return f"FakeClock({self._wall!r})"

    def time(self) -> float:
        """Unix seconds."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass, on both clocks. Raises `ValueError` if negative: time does not go back."""
        if seconds < 0:
            raise ValueError(f"time cannot pass backwards ({seconds!r} s); step_wall() sets the clock back")
        with self._lock:
            self._wall += seconds
            self._monotonic += seconds

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward (or, negative, back) by ``seconds`` while no time passes."""
        with self._lock:
            self._wall += seconds
