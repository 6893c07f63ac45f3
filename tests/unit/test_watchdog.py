"""The watchdog cuts what overruns, that alone, and is no burden to forks."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from time import monotonic

import pytest
import pythons

from tiercache.watchdog import Call, shut


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    one.settimeout(60)
    other.settimeout(60)
    with one, other:
        yield one, other


def test_a_socket_is_shut_at_the_end_of_its_call(pair: tuple[socket.socket, socket.socket]) -> None:
    with Call(0.05) as call:
        watch = call.watch(pair[0].fileno())
        assert pair[0].recv(1) == b""  # nobody sent anything
        assert monotonic() >= call.until
        assert watch.end() is False
        assert watch.end() is False
        with pytest.raises(TimeoutError):
            call.left()
        assert call.over()
        assert 0 < call.at_most(5) < 5


def test_what_ended_in_time_is_left_alone(pair: tuple[socket.socket, socket.socket]) -> None:
    over = threading.Event()
    with Call(0.05) as call:
        watch = call.watch(pair[0].fileno())
        assert watch.end() is True
        assert watch.end() is False
        later = call.watch(over.set)  # the thread comes by at that time
        assert over.wait(60)
        assert later.end() is False
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


def test_each_is_cut_at_its_own_time_whatever_the_order() -> None:
    order: list[str] = []
    gates = {name: threading.Event() for name in ("late", "soon", "moved")}

    def cut(name: str) -> None:
        order.append(name)
        gates[name].set()

    with Call(0.2) as late, Call(0.02) as soon:
        assert Call.current() is soon
        moved = soon.watch(lambda: cut("moved"))
        moved.extend(late.until + 0.2)
        late.watch(lambda: cut("late"))
        soon.watch(lambda: cut("soon"))
    assert Call.current() is None
    for gate in gates.values():
        assert gate.wait(60)
    assert order == ["soon", "late", "moved"]


def test_a_cut_that_fails_hurts_no_other(pair: tuple[socket.socket, socket.socket]) -> None:
    with Call(0.02) as call:
        call.watch(lambda: 1 / 0)
        call.watch(pair[0].fileno())
        assert pair[0].recv(1) == b""


def test_a_descriptor_that_was_closed_meanwhile_is_not_another_ones() -> None:
    one, other = socket.socketpair()
    number = one.fileno()
    with Call(0.1) as call:
        watch = call.watch(number)
        one.close()
        new, counterpart = socket.socketpair()
        with new, counterpart, other:
            assert number in (new.fileno(), counterpart.fileno())
            assert other.recv(1) == b""  # that one was shut
            new.send(b"x")
            assert counterpart.recv(1) == b"x"
    assert watch.end() is False


def test_shutting_leaves_the_descriptor_open(pair: tuple[socket.socket, socket.socket]) -> None:
    shut(pair[0].fileno())
    assert pair[1].recv(1) == b""
    os.fstat(pair[0].fileno())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_fork_finds_one_thread_and_both_sides_watch_on() -> None:
    """Newer Pythons warn of forks from several threads, and warnings are errors here."""
    program = """
import os, socket, threading
from tiercache.watchdog import Call
def cut_in_time():
    one, other = socket.socketpair()
    one.settimeout(60)
    with one, other, Call(0.02) as call:
        watch = call.watch(one.fileno())
        assert one.recv(1) == b"" and not watch.end()
cut_in_time()
gate = threading.Event()
with Call(0.3) as call:
    watch = call.watch(gate.set)
    assert threading.active_count() == 2
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert threading.active_count() == 1
            assert not watch.end()  # it is the parent's
            cut_in_time()
            status = 0
        finally:
            os._exit(status)
    assert gate.wait(60) and not watch.end()
assert os.waitpid(child, 0)[1] == 0
cut_in_time()
print("done")
"""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", program]
    done = pythons.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)
