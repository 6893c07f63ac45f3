"""Late writes: commands that a server carries out long after their caller gave up on them, made for real.

A caller whose time is over closes its connection, but what it sent is in the server's socket buffer, or on
its way. Two kinds are made here:

* `given_up`: a server that is stopped with SIGSTOP carries the command out when it goes on. What was sent to
  it later, on another connection, mostly comes after.
* `on_its_way`: a `FaultyProxy` holds the connection. Whatever is sent on new connections comes first, so that
  the late write overtakes, backwards, everything that was said to settle it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from servers.valkey import Valkey
from waiting import until

from tiercache.errors import TierTimeout
from tiercache.testing import FaultyProxy

__all__ = ["arrived", "given_up", "on_its_way"]


@contextmanager
def given_up(server: Valkey, write: Callable[[], object]) -> Iterator[None]:
    """``write`` raises `TierTimeout` on the stopped ``server``, which carries it out when this ends."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        with pytest.raises(TierTimeout):
            write()
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


@contextmanager
def on_its_way(proxy: FaultyProxy, write: Callable[[], object]) -> Iterator[None]:
    """``write``, over a connection through ``proxy`` that exists already, raises `TierTimeout`; it arrives
    when this ends. New connections go through."""
    proxy.hold()
    try:
        with pytest.raises(TierTimeout):
            write()
        yield
    finally:
        proxy.let_go()


def arrived(server: Valkey, key: bytes, part: bytes) -> None:
    """Wait until ``part`` is in what ``server`` has under ``key``, its raw name."""
    with server.client() as client:
        until(lambda: part in (client.get(key) or b""), "the late write")
