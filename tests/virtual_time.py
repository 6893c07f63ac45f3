"""Real threads in a time that passes only while all of them sleep."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from waiting import LIMIT

from tiercache.testing import FakeClock

__all__ = ["VirtualTime"]


class VirtualTime:
    """Runs functions in threads, whose `sleep` is over as soon as nobody else is awake."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self._awake = 0
        self._asleep: dict[object, float] = {}
        self._changed = threading.Condition()
        self._errors: list[BaseException] = []

    async def sleep(self, seconds: float) -> None:
        """In the place of a runtime's."""
        me = object()
        with self._changed:
            until = self.clock.monotonic() + seconds
            self._asleep[me] = until
            self._awake -= 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: me not in self._asleep, LIMIT)

    def run(self, functions: list[Callable[[], Any]]) -> None:
        """Run ``functions`` until all have ended; raises what one of them raised."""
        self._awake = len(functions)
        threads = [threading.Thread(target=self._one, args=[one], daemon=True) for one in functions]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            with self._changed:
                assert self._changed.wait_for(lambda: self._awake == 0, LIMIT)
                if self._asleep:
                    # A little later than the first of them: adding and subtracting have rounded.
                    first = min(self._asleep.values())
                    self.clock.advance(max(0.0, first - self.clock.monotonic()))
                    due = [one for one, until in self._asleep.items() if until <= first]
                    for one in due:
                        del self._asleep[one]
                    self._awake += len(due)
                    self._changed.notify_all()
                    continue
            for thread in threads:
                thread.join(LIMIT)
        assert not self._errors, self._errors

    def _one(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - told by run()
            self._errors.append(error)
        finally:
            with self._changed:
                self._awake -= 1
                self._changed.notify_all()
