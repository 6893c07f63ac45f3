"""`Upkeep`: work that no caller should wait for, done by a thread that exists only while there is some."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Final

__all__ = ["Upkeep"]

_log: Final = logging.getLogger("tiercache.disk")


class Upkeep:
    """Calls ``step`` in a daemon thread when it is due. Thread-safe; holds ``step``'s owner weakly."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = weakref.WeakMethod(step)
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget the thread and what was due: in a forked child there is neither."""
        self._condition = threading.Condition()
        self._due: float | None = None
        self._thread: threading.Thread | None = None

    @property
    def due(self) -> bool:
        """Whether a step is ahead; read without a lock."""
        return self._due is not None

    def within(self, seconds: float) -> None:
        """Have a step done at the latest ``seconds`` from now."""
        due = monotonic() + seconds
        with self._condition:
            if self._closed or (self._due is not None and self._due <= due):
                return
            self._due = due
            if self._thread is not None:
                self._condition.notify_all()
                return
            self._thread = threading.Thread(target=self._run, name="tiercache-disk-upkeep", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter ends: closing does the work
                self._thread = self._due = None

    def close(self, seconds: float) -> None:
        """Begin no further step, and wait at most ``seconds`` for the one that runs."""
        with self._condition:
            self._closed = True
            thread = self._thread
            self._condition.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _run(self) -> None:
        while True:
            with self._condition:
                while self._due is not None and not self._closed:
                    rest = self._due - monotonic()
                    if rest <= 0:
                        break
                    self._condition.wait(rest)
                if self._due is None or self._closed:
                    self._thread = None
                    return
                self._due = None
            step = self._step()
            if step is None:
                return
            try:
                step()
            except Exception as error:  # noqa: BLE001 - nobody to raise to; the work comes up again
                _log.debug("upkeep failed: %s", error)
            del step  # or the owner would live until the next one is due
