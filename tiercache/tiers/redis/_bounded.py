"""Connections of redis-py that keep to the end of the call that makes them, while they are being made.

redis-py gives each step of it (an address of the host, the TLS handshake, a login, a first command) the whole
of a time-out. These take what is left of the running `Call`, for each step anew, and their socket is
under its watch, for servers that answer bit by bit. Outside a call they are redis-py's own.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import Any

from tiercache.watchdog import Call, Watch

__all__ = ["bounded", "watch_socket"]


def watch_socket(call: Call, sock: Any) -> Watch:
    """Shut ``sock`` when the time of ``call`` is over; without TLS's farewell, which would wait."""
    return call.watch(partial(socket.socket.shutdown, sock, socket.SHUT_RDWR))


class _Bounded:
    """Mixed into a class of connections; blocking ones alone, for asyncio has timers."""

    _tc_timeout: float | None = None
    _tc_connect_timeout: float | None = None
    _tc_watch: Watch | None = None

    @property
    def socket_timeout(self) -> float | None:
        call = Call.current()
        return self._tc_timeout if call is None else call.at_most(self._tc_timeout)

    @socket_timeout.setter
    def socket_timeout(self, value: float | None) -> None:
        self._tc_timeout = value

    @property
    def socket_connect_timeout(self) -> float | None:
        call = Call.current()
        return self._tc_connect_timeout if call is None else call.at_most(self._tc_connect_timeout)

    @socket_connect_timeout.setter
    def socket_connect_timeout(self, value: float | None) -> None:
        self._tc_connect_timeout = value

    def connect_check_health(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().connect_check_health(*args, **kwargs)  # type: ignore[misc] # a mixin
        finally:
            if self._tc_watch is not None:
                self._tc_watch.end()
                self._tc_watch = None

    def _connect(self) -> Any:
        sock = super()._connect()  # type: ignore[misc] # a mixin
        call = Call.current()
        if call is not None:
            self._tc_watch = watch_socket(call, sock)
        return sock


_classes: dict[type, type] = {}


def bounded(kind: type) -> type:
    """``kind``, a class of blocking connections, with its steps bounded."""
    if issubclass(kind, _Bounded):
        return kind
    return _classes.setdefault(kind, type(kind.__name__, (_Bounded, kind), {}))
