"""`CallPlace`: the place that a call of a chat model has among the loads of its cache (``concurrency``).

No code of ours encloses the call: it begins when the rate limiter was asked, and of its end several tell,
none of them always. The answer is given to the cache; callbacks hear that the run ended, or failed, as does a
stream that is closed; of an async call that is cancelled nobody tells, but each runs in a task, which ends.
What even these miss is noticed by who wants the place: LangChain has dropped the run.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import ContextVar
from uuid import UUID
from weakref import ref

from tiercache._loading.closing import Closing
from tiercache._loading.gate import Gate, Place, places, within
from tiercache._running.bridge import Runtime
from tiercache._running.event_loops import running_loop
from tiercache._running.owners import Owner, leavings, thrown

__all__ = ["CallPlace"]


class _Here:
    """Known to the context that has it, and gone with that."""

    __slots__ = ("__weakref__", "place")

    def __init__(self) -> None:
        self.place: Place | None = None


#: Of blocking calls, where they asked for their places.
_here: ContextVar[tuple[_Here, ...]] = ContextVar("tiercache_langchain_here", default=())


class _RunOwner(Owner):
    """A run of LangChain's, which is known by its number: that is an object, held by who works at the run.

    For a blocking call ``here`` as well. A stream may be read piece by piece in the threads of a pool, each
    time in a context of its own, as web frameworks do; it has its place for the first of them alone, for
    threads that wait for more places would keep it from being read on, and wait for ever. Where they are all
    of one context, which a chain has for its stream, it has its place until the thread ends that took it:
    that lends it whenever it waits itself, and nobody does after it.
    """

    __slots__ = ("_here", "_run", "_thread")

    def __init__(self, run: ref[UUID], here: _Here | None) -> None:
        self._run = run
        self._here = None if here is None else ref(here)
        self._thread = None if here is None else ref(threading.current_thread())

    @property
    def is_gone(self) -> bool:
        if self._run() is None or (self._here is not None and self._here() is None):
            return True
        thread = None if self._thread is None else self._thread()
        return self._thread is not None and (thread is None or not thread.is_alive())


class CallPlace:
    """A ``place`` that was taken, until the first call of `leave`. Thread-safe.

    Calls that were made inside of another one, or of a load, or while a stream is read, have the place of
    that, which is ``lent`` to them meanwhile.
    """

    __slots__ = ("_held", "_task")

    def __init__(self, place: Place, lent: tuple[Place, ...]) -> None:
        self._held = [(place, lent)]
        self._task: asyncio.Task[object] | None = None

    @classmethod
    async def take(
        cls, runtime: Runtime, gate: Gate, closing: Closing, run: ref[UUID], *, wait: bool
    ) -> CallPlace | None:
        """One for ``run``; ``None`` if there is none now and the caller does not ``wait``."""
        here = _Here() if runtime.blocking else None
        owner = _RunOwner(run, here)
        place, lent = None, places(runtime)
        for outer in lent:
            outer.gate.lend(outer)
        try:
            place = await gate.enter(runtime, owner, closing) if wait else gate.enter_now(runtime, owner)
        except GeneratorExit as gone:
            thrown(gone)
            raise
        finally:
            if place is None:
                for outer in lent:
                    outer.gate.take_back(outer)
        if place is None:
            return None
        taken = cls(place, lent)
        taken._begin(place, runtime, here)
        return taken

    def _begin(self, place: Place, runtime: Runtime, here: _Here | None) -> None:
        within(place, runtime)
        if here is None:
            self._task = asyncio.current_task()
            if self._task is not None:
                self._task.add_done_callback(self.leave)
            return
        # A stream that is opened by a blocking call on a loop's thread goes on with what runs there.
        place.loop = running_loop()
        here.place = place
        kept = (one for one in _here.get() if one.place is not None and not one.place.has_ended)
        _here.set((*kept, here))

    def leave(self, _ended: object = None) -> None:
        """Give it back. For any thread, and for who is told of the end of a task."""
        if leavings.take(self.leave):
            return
        try:
            place, lent = self._held.pop()  # by one alone of those who tell
        except IndexError:
            return
        place.gate.leave(place)
        for outer in lent:
            outer.gate.take_back(outer)
        # A task may live long, and have many streams; and what it has in its context is not to have it.
        task, self._task = self._task, None
        if task is not None and running_loop() is place.loop:
            task.remove_done_callback(self.leave)
