"""A local server that plays a provider of models: it answers, refuses, breaks off, or says nothing."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["HALF", "NOTHING", "SILENCE", "Provider", "provider"]

#: Answers beside statuses: half of one, none, and none for ever.
HALF, NOTHING, SILENCE = "half", "nothing", "silence"


class Provider(ThreadingHTTPServer):
    """It embeds what is posted to it, after it has given the ``script``: statuses (with headers) and the
    above."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script: list[Any] = []
        self.asked: list[list[str]] = []
        self.lock = threading.Lock()
        self.over = threading.Event()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/embed"

    def handle_error(self, *_about: Any) -> None:
        """Clients leave before the end, and should."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Provider

    def do_POST(self) -> None:
        keys = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.server.lock:
            self.server.asked.append(keys)
            what = self.server.script.pop(0) if self.server.script else 200
        status, headers = what if isinstance(what, tuple) else (what, {})
        if what == SILENCE:
            self.server.over.wait(20)
        if what in (NOTHING, SILENCE):
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        good = what in (200, HALF)
        body = json.dumps([f"vector of {key}" for key in keys] if good else {"error": "so it is"}).encode()
        self.send_response(200 if good else status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if what == HALF else body)
        if what == HALF:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, *_about: Any) -> None:
        pass


@contextmanager
def provider() -> Iterator[Provider]:
    """One that is served by a thread of its own."""
    with Provider() as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01], daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join(20)
