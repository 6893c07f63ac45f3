"""After a fork, in the child and there only."""

from __future__ import annotations

import gc
import os
import threading
import weakref

import pytest

from tiercache.forks import reset_after_fork


class Locked:
    """As a tier is in the moment of a fork: another thread holds its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.resets = 0
        reset_after_fork(self)

    def after_fork(self) -> None:
        self.lock = threading.Lock()
        self.resets += 1


def _in_child(check) -> int:
    """The exit code of a forked child: what ``check`` returns, 99 if it raises."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = int(check())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forking beside threads is the point
def test_a_child_gets_fresh_locks_and_the_parent_keeps_its_own():
    item = Locked()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with item.lock:
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    try:
        assert _in_child(lambda: item.resets * 10 + item.lock.acquire(timeout=5)) == 11
        assert item.resets == 0
        assert item.lock.locked()
    finally:
        done.set()
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_registering_keeps_nothing_alive():
    item, other = Locked(), Locked()
    gone = weakref.ref(item)
    del item
    gc.collect()
    assert gone() is None
    assert _in_child(lambda: other.resets) == 1
