"""The proxy does to a connection what its mode says, and to no other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tiercache.errors import ConfigError
from tiercache.testing import BlackHole, Delay, FaultyProxy, HalfOpen, Pass, Refuse, Reset, Truncate


class Echo:
    """A server that answers ``b"<" + what it got + b">"``, and says what it got."""

    def __init__(self, listener: socket.socket) -> None:
        self.listener = listener
        self.heard = threading.Semaphore(0)
        listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(100):
                    self.heard.release()
                    connection.sendall(b"<" + data + b">")
            except OSError:
                return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Echo(listener)
        listener.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultyProxy]:
    with FaultyProxy(echo.listener.getsockname()) as proxy:
        yield proxy


def connect(proxy: FaultyProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=30)


def ask(client: socket.socket, text: bytes, size: int | None = None) -> bytes:
    client.sendall(text)
    return read(client, len(text) + 2 if size is None else size)


def read(client: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size and (more := client.recv(size - len(got))):
        got += more
    return got


def test_passes_both_ways_on_every_connection(proxy: FaultyProxy) -> None:
    with connect(proxy) as one, connect(proxy) as other:
        assert ask(one, b"abc") == b"<abc>"
        assert ask(other, b"x") == b"<x>"
        assert ask(one, b"y") == b"<y>"
    assert proxy.connections == 2
    assert not proxy.bitten.is_set()


def test_refuses_and_lets_in_again(proxy: FaultyProxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"abc") == b"<abc>"
        proxy.mode = Refuse()
        with pytest.raises(ConnectionResetError):
            old.recv(1)
    for _ in range(3):
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
    proxy.mode = Pass()
    with connect(proxy) as new:
        assert ask(new, b"abc") == b"<abc>"


def test_resets_after_so_many_bytes_of_an_answer(proxy: FaultyProxy) -> None:
    with connect(proxy) as old:
        assert ask(old, b"abc") == b"<abc>"
        proxy.mode = Reset(after=3)
        with connect(proxy) as new:
            for client in (old, new):
                assert ask(client, b"abc", 3) == b"<ab"
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
    assert proxy.bitten.is_set()


def test_truncates_and_closes_in_good_order(proxy: FaultyProxy, echo: Echo) -> None:
    proxy.mode = Truncate(after=7)
    with connect(proxy) as client:
        assert ask(client, b"abc") == b"<abc>"
        assert ask(client, b"abc", 3) == b"<a"  # and then the end
    proxy.mode = Truncate()
    with connect(proxy) as client:
        assert ask(client, b"abc", 1) == b""
    for _ in range(3):
        assert echo.heard.acquire(timeout=30)  # it is the answers that were cut


def test_half_open_takes_connections_and_goes_on_later(proxy: FaultyProxy, echo: Echo) -> None:
    with connect(proxy) as old:
        assert ask(old, b"abc") == b"<abc>"
        assert echo.heard.acquire(timeout=30)
        proxy.mode = HalfOpen()
        with connect(proxy) as new:
            new.sendall(b"new")
            old.sendall(b"old")
            assert proxy.bitten.wait(30)
            assert not echo.heard.acquire(blocking=False)
            proxy.mode = Pass()
            assert read(old, 5) == b"<old>"
            assert read(new, 5) == b"<new>"


def test_half_open_in_the_middle_of_an_answer(proxy: FaultyProxy) -> None:
    proxy.mode = HalfOpen(after=2)
    with connect(proxy) as client:
        assert ask(client, b"abc", 2) == b"<a"
        assert proxy.bitten.wait(30)
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(30)
        proxy.mode = Pass()
        assert read(client, 3) == b"bc>"


def test_a_black_hole_swallows_and_keeps_the_connection(proxy: FaultyProxy, echo: Echo) -> None:
    proxy.mode = BlackHole()
    with connect(proxy) as client:
        client.sendall(b"abc")
        assert proxy.bitten.wait(30)
        client.sendall(b"def")  # still there
        proxy.mode = Pass()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert not echo.heard.acquire(blocking=False)
    with connect(proxy) as client:
        assert ask(client, b"abc") == b"<abc>"


def test_drips(proxy: FaultyProxy) -> None:
    proxy.mode = Delay(0.005, piece=1)
    with connect(proxy) as client:
        client.sendall(b"abc")
        begun = time.monotonic()
        assert read(client, 5) == b"<abc>"
        assert time.monotonic() - begun >= 4 * 0.005  # byte by byte; who is late reads several at once
    proxy.mode = Delay(3600)
    with connect(proxy) as client:
        client.sendall(b"abc")
        assert proxy.bitten.wait(30)
        proxy.mode = Pass()  # wakes who waits
        assert read(client, 5) == b"<abc>"


def test_held_bytes_arrive_late_also_when_their_client_is_gone(proxy: FaultyProxy, echo: Echo) -> None:
    with connect(proxy) as old:
        assert ask(old, b"abc") == b"<abc>"
        assert echo.heard.acquire(timeout=30)
        proxy.hold()
        old.sendall(b"late")
        assert proxy.bitten.wait(30)
    with connect(proxy) as new:
        assert ask(new, b"x") == b"<x>"  # it is not held
        assert echo.heard.acquire(timeout=30)
        assert not echo.heard.acquire(blocking=False)
        proxy.let_go()
        assert echo.heard.acquire(timeout=30)


def test_stands_before_a_unix_socket_too(tmp_path: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        path = str(tmp_path / "s")
        listener.bind(path)
        Echo(listener)
        with FaultyProxy(path) as proxy, connect(proxy) as client:
            assert ask(client, b"abc") == b"<abc>"


def test_the_server_may_come_later_and_go(tmp_path: Path) -> None:
    with FaultyProxy(str(tmp_path / "s")) as proxy, connect(proxy) as client:
        client.sendall(b"abc")
        assert client.recv(1) == b""  # there is none


def test_resets_all_and_ends_everything_when_it_is_closed(proxy: FaultyProxy) -> None:
    with connect(proxy) as client:
        assert ask(client, b"abc") == b"<abc>"
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        assert ask(client, b"abc") == b"<abc>"
        proxy.close()
        proxy.close()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy)


def test_wrong_arguments_are_told_at_once(proxy: FaultyProxy) -> None:
    with pytest.raises(ConfigError, match="neither"):
        FaultyProxy(6379)  # type: ignore[arg-type] # that is the point
    with pytest.raises(ConfigError, match="no mode"):
        proxy.mode = Pass  # type: ignore[assignment] # as above
