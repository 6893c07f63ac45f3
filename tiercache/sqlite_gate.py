"""A gate round our SQLite calls, of whichever tier, so that no process is forked while one of them runs.

SQLite keeps its locks and its table of open files in global variables of the process. A child forked in
the middle of a call finds them held for ever by a thread that it does not have; and a child of a parent
with open connections believes that it holds file locks which belong to the parent. So, before a fork:
the gate shuts, the calls inside end (for at most `DRAIN_SECONDS`), and idle connections are closed.
Parent and child then open their own when they next need one.

Rejected: forgetting the inherited connections in the child alone. SQLite would go on counting them as its
own, take no lock for the child's new ones, and delete the log under the child when the parent closes.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import Final, Protocol

__all__ = ["DRAIN_SECONDS", "GATE", "Disconnectable", "Gate"]

#: How long a fork waits for the calls inside; more than the usual deadline of a call.
DRAIN_SECONDS: Final = 5.0


class Disconnectable(Protocol):
    """Holds idle connections."""

    def disconnect(self) -> None:
        """Close the idle connections. Called with no SQLite call of ours in flight; must not raise."""
        ...


class Gate:
    """Counts calls in flight and holds new ones back while the process forks. Thread-safe."""

    def __init__(self) -> None:
        self._renew()
        self._forks = 0
        self._drained = True
        self._pools: weakref.WeakSet[Disconnectable] = weakref.WeakSet()
        #: True in a child that was forked in the middle of a call, where SQLite must not be touched.
        self.broken = False

    def _renew(self) -> None:
        # Re-entrant: a signal's handler, or the garbage collector, may make a call while one begins. Entered
        # by itself: through the condition it takes three times as long.
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        #: As long as there are calls. To add to it and to take from it is one step each, which a number
        #: needs a lock for, twice in every call: a twentieth of a read of one key.
        self._inside: list[None] = []

    def add(self, pool: Disconnectable) -> None:
        """Have ``pool`` disconnected before each fork, as long as it lives."""
        with self._lock:
            self._pools.add(pool)

    def enter(self, seconds: float) -> bool:
        """Begin a call; ``False`` if a fork in progress did not end within ``seconds``."""
        # In this order, and a fork's is the other one: so either it sees the call, or the call sees it.
        self._inside.append(None)
        if not self._forks:
            return True
        self.leave()
        with self._lock:
            if not self._condition.wait_for(lambda: not self._forks, seconds):
                return False
            self._inside.append(None)
            return True

    def leave(self) -> None:
        """End a call that `enter` began."""
        try:
            self._inside.pop()
        except IndexError:  # it began in the parent, whose thread forked in the middle of it
            return
        if self._forks:
            with self._lock:
                if not self._inside:
                    self._condition.notify_all()

    def before_fork(self) -> None:
        with self._lock:
            self._forks += 1
            self._drained = self._condition.wait_for(lambda: not self._inside, DRAIN_SECONDS)
            pools = list(self._pools)
        for pool in pools:
            pool.disconnect()

    def after_fork_in_parent(self) -> None:
        with self._lock:
            self._forks -= 1
            if not self._forks:
                self._condition.notify_all()

    def after_fork_in_child(self) -> None:
        self._renew()
        self._forks = 0
        self.broken = self.broken or not self._drained


#: One for the process, because SQLite's globals are.
GATE: Final = Gate()

if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(
        before=GATE.before_fork,
        after_in_parent=GATE.after_fork_in_parent,
        after_in_child=GATE.after_fork_in_child,
    )
