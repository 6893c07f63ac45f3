"""`FaultyProxy`: a TCP proxy that does to connections what networks and dying servers do to them."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeAlias

from tiercache.errors import ConfigError

__all__ = ["BlackHole", "Delay", "FaultyProxy", "HalfOpen", "Mode", "Pass", "Refuse", "Reset", "Truncate"]


@dataclass(frozen=True, slots=True)
class Pass:
    """Everything gets through."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nobody listens: new connections are refused, those that exist are reset."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Each connection gets ``after`` more bytes of answers, and is reset at the next one."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class Truncate:
    """Each connection gets ``after`` more bytes of answers, and is closed in good order at the next one."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class HalfOpen:
    """Connections are accepted, and get ``after`` more bytes of answers; then nothing moves any more, as with
    a server that is stopped. In another mode everything goes on where it was."""

    after: int = 0


@dataclass(frozen=True, slots=True)
class BlackHole:
    """Connections are accepted and all bytes swallowed, in both directions. In another mode the connections
    that lost some are reset."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Every piece of an answer, at most ``piece`` bytes, comes ``seconds`` late: small ones drip."""

    seconds: float
    piece: int = 65536


Mode: TypeAlias = Pass | Refuse | Reset | Truncate | HalfOpen | BlackHole | Delay

_CHUNK = 65536
#: On, and zero seconds: closing sends a reset and forgets what was not sent.
_RESET = struct.pack("ii", 1, 0)


class FaultyProxy:
    """Stands before a server, at ``127.0.0.1`` and ``port``, and is faulty as its ``mode`` says.

    ``target``
        the server: ``(host, port)``, or the path of its unix socket. It need not be there yet.
    ``mode``
        what happens to connections; may be set at any time, from any thread, and takes effect for existing
        connections too, with the next bytes that move. Bytes are counted for each connection, from when the
        mode was set.

    Used with ``with``, or `close` it. Two threads a connection, and one that accepts; all are daemons.
    Thread-safe.

        with FaultyProxy(("127.0.0.1", 6379)) as proxy:
            tier = RedisTier(f"redis://127.0.0.1:{proxy.port}", deadline="250ms")
            proxy.mode = Truncate(after=10)
    """

    def __init__(self, target: tuple[str, int] | str, mode: Mode | None = None) -> None:
        if not isinstance(target, tuple | str):
            raise ConfigError(f"FaultyProxy: target={target!r} is neither (host, port) nor a socket's path")
        self._target = target
        self._changed = threading.Condition()
        self._mode: Mode = Pass()
        self._links: set[_Link] = set()
        self._accepted = 0
        self._closed = False
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        #: Set when the present mode has bitten, that is kept bytes from moving since it was set. (Who is
        #: refused is not heard of.)
        self.bitten = threading.Event()
        self._listen()
        if mode is not None:
            self.mode = mode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"FaultyProxy({self._target!r}, {self._mode!r}) at 127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        return self._accepted

    @property
    def mode(self) -> Mode:
        """What happens to connections now."""
        return self._mode

    @mode.setter
    def mode(self, mode: Mode) -> None:
        if not isinstance(mode, Mode):
            raise ConfigError(f"FaultyProxy: mode={mode!r} is no mode, such as Pass() or Refuse()")
        with self._changed:
            before, self._mode = self._mode, mode
            self.bitten.clear()
            for link in list(self._links):
                link.counted = 0
                if isinstance(mode, Refuse) or link.lossy:
                    link.end(reset=True)
            if isinstance(mode, Refuse):
                self._stop_listening()
                self._listener = _bound(self.port)  # which keeps the port, and refuses
            elif isinstance(before, Refuse):
                self._listen()
            self._changed.notify_all()

    def hold(self) -> None:
        """Have nothing move on the connections that exist now, whatever the mode, until `let_go`. What a
        client sends meanwhile reaches the server then, also when that client is long gone: a late write."""
        with self._changed:
            for link in self._links:
                link.held = True

    def let_go(self) -> None:
        """Let the held connections go on."""
        with self._changed:
            for link in self._links:
                link.held = False
            self._changed.notify_all()

    def reset_all(self) -> None:
        """Reset the connections that exist now, whatever the mode."""
        with self._changed:
            for link in list(self._links):
                link.end(reset=True)

    def close(self) -> None:
        """End all connections, and listen no more. Idempotent."""
        with self._changed:
            self._closed = True
            self._stop_listening()
            for link in list(self._links):
                link.end(reset=True)
            self._changed.notify_all()

    def _listen(self) -> None:
        self._listener.listen(128)
        _start(partial(self._accept, self._listener))

    def _stop_listening(self) -> None:
        with suppress(OSError):  # it does not listen
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._listener.close()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # no longer listening
                return
            with self._changed:
                if self._closed or isinstance(self._mode, Refuse):
                    _end(client, reset=True)
                    continue
                self._accepted += 1
                link = _Link(self, client)
                self._links.add(link)
            _start(link.carry_requests)

    # -- for the links ---------------------------------------------------------------------------

    def connect(self) -> socket.socket:
        if isinstance(self._target, str):
            server = socket.socket(socket.AF_UNIX)
            try:
                server.connect(self._target)
            except OSError:
                server.close()
                raise
            return server
        server = socket.create_connection(self._target, timeout=10)
        server.settimeout(None)
        return server

    def bite(self) -> None:
        self.bitten.set()

    def wait(self, done: Callable[[], Any], seconds: float | None = None) -> None:
        """Until ``done()`` or the time is over; with the lock held."""
        self._changed.wait_for(lambda: self._closed or done(), seconds)

    @property
    def lock(self) -> threading.Condition:
        return self._changed

    def forget(self, link: _Link) -> None:
        self._links.discard(link)


class _Link:
    """One connection and its counterpart at the server; its fields are the proxy's lock's."""

    def __init__(self, proxy: FaultyProxy, client: socket.socket) -> None:
        self.counted = 0  # bytes of answers since the mode was set
        self.lossy = False
        self.held = False
        self._proxy = proxy
        self._client = client
        self._server: socket.socket | None = None
        self._ended = False

    def end(self, *, reset: bool) -> None:
        """With the lock held."""
        if self._ended:
            return
        self._ended = True
        self._proxy.forget(self)
        _end(self._client, reset=reset)
        if self._server is not None:
            _end(self._server, reset=False)
        self._proxy.lock.notify_all()

    def carry_requests(self) -> None:
        """From the client to the server, until either ends; a thread's work."""
        try:
            while (data := self._receive(self._client)) and self._let_through(len(data), answer=False):
                if self._server is None:
                    self._reach()
                assert self._server is not None  # noqa: S101 - for the type checker
                self._server.sendall(data)
        except OSError:
            pass  # ended, by one side or by the proxy
        finally:
            with self._proxy.lock:
                self.end(reset=False)

    def carry_answers(self) -> None:
        """From the server to the client; a thread's work."""
        assert self._server is not None  # noqa: S101 - for the type checker
        try:
            while data := self._receive(self._server):
                while data:
                    mode = self._proxy.mode
                    size = mode.piece if isinstance(mode, Delay) else _CHUNK
                    if isinstance(mode, Reset | Truncate | HalfOpen) and mode.after > self.counted:
                        size = mode.after - self.counted
                    if not self._let_through(len(data[:size]), answer=True):
                        return
                    self._client.sendall(data[:size])
                    data = data[size:]
        except OSError:
            pass  # as above
        finally:
            with self._proxy.lock:
                self.end(reset=False)

    def _reach(self) -> None:
        server = self._proxy.connect()
        with self._proxy.lock:
            if self._ended:
                server.close()
                raise OSError
            self._server = server
        _start(self.carry_answers)

    def _receive(self, sock: socket.socket) -> bytes:
        while True:
            try:
                data = sock.recv(_CHUNK)
            except OSError:
                return b""
            with self._proxy.lock:
                if not data or not isinstance(self._proxy.mode, BlackHole):
                    return data
                self.lossy = True
                self._proxy.bite()

    def _moved_on(self, mode: Mode) -> bool:
        return self._ended or self._proxy.mode is not mode

    def _let_through(self, size: int, *, answer: bool) -> bool:
        """Whether ``size`` bytes may go on; waits until that is known."""
        proxy = self._proxy
        with proxy.lock:
            while not self._ended:
                mode = proxy.mode
                if self.held:
                    proxy.bite()
                    proxy.wait(lambda: self._ended or not self.held)
                    continue
                if isinstance(mode, HalfOpen) and (self.counted >= mode.after):
                    proxy.bite()
                    proxy.wait(partial(self._moved_on, mode))
                    continue
                if answer and isinstance(mode, Reset | Truncate) and self.counted >= mode.after:
                    proxy.bite()
                    self.end(reset=isinstance(mode, Reset))
                    return False
                if answer and isinstance(mode, Delay):
                    proxy.bite()
                    proxy.wait(partial(self._moved_on, mode), mode.seconds)
                if answer:
                    self.counted += size
                return not self._ended
            return False


def _bound(port: int) -> socket.socket:
    """A socket that has the port, and does not listen yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", port))
    return sock


def _end(sock: socket.socket, *, reset: bool) -> None:
    with suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            # Says nothing to the other end, but wakes the thread that reads here: the reset waits for it.
            sock.shutdown(socket.SHUT_RD)
        else:
            sock.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        sock.close()


def _start(work: Callable[[], None]) -> None:
    threading.Thread(target=work, name="FaultyProxy", daemon=True).start()
