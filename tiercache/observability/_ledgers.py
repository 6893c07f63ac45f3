"""`LedgerReader`: what the ledger of a cache says of today, read in a thread of its own: the tier that keeps
it may be slow, or stand still, and no scrape is to wait for that."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING
from weakref import ref

from tiercache._chain.stack import Stack
from tiercache._log import logger
from tiercache._running.bridge import BLOCKING, drive, in_thread
from tiercache.forks import reset_after_fork
from tiercache.ledger import Statement

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["LedgerReader"]


class LedgerReader:
    """Of the root of ``stack``, which it holds weakly. Thread-safe."""

    def __init__(self, stack: Stack) -> None:
        self._stack = ref(stack)
        #: What was said last, of which day.
        self._latest: tuple[str, Statement] | None = None
        self.after_fork()
        reset_after_fork(self)

    def after_fork(self) -> None:
        """The thread that reads is the parent's."""
        self._lock = threading.Lock()
        self._reading: Future[None] | None = None

    def begin(self) -> None:
        """Read it, unless somebody does."""
        with self._lock:
            if self._reading is None or self._reading.done():
                self._reading = in_thread(self._read)

    def latest(self, seconds: float) -> Statement | None:
        """What it says, read for at most so long; ``None`` where nothing is known of today, and once the
        cache is closed."""
        from concurrent.futures import wait

        reading = self._reading
        if reading is not None:
            wait([reading], seconds)
        stack, latest = self._stack(), self._latest
        if stack is None or stack.closed or stack.books is None or latest is None:
            return None
        day, statement = latest
        return statement if day == stack.books.today() else None

    def _read(self) -> None:
        stack = self._stack()
        if stack is None or stack.closed or stack.books is None:
            return
        day = stack.books.today()
        try:
            self._latest = day, drive(stack.books.read(BLOCKING, day))
        except Exception as error:  # noqa: BLE001 - the tier is ill, which is told elsewhere
            logger().debug("a ledger cannot be exported just now: %s", type(error).__name__)
