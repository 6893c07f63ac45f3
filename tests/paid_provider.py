"""A provider of paid answers, played by a local HTTP server that counts what it is asked; and a process that
asks it through a cache."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Provider", "ask", "provider"]

#: Of each answer.
USAGE = {"prompt_tokens": 100, "completion_tokens": 10}


class Provider(ThreadingHTTPServer):
    """Answers each question with what the next of ``faults`` says: a status; ``"half"`` of a body, or
    ``"nothing"``; and without one with a text and its usage. ``asked`` counts the questions by the answer."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: list[int | str] = []
        self.asked: Counter[int | str] = Counter()
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def next(self) -> int | str:
        """What to answer to a question, which counts."""
        with self.lock:
            answer = self.faults.pop(0) if self.faults else 200
            self.asked[answer] += 1
            return answer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        server: Any = self.server
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = server.next()
        self.close_connection = True
        if answer == "nothing":
            return
        body = json.dumps({"text": "an answer", "usage": USAGE}).encode()
        if isinstance(answer, int) and answer != 200:
            body = b"{}"
        self.send_response(answer if isinstance(answer, int) else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if answer == "half" else body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def provider() -> Iterator[Provider]:
    """A server that runs."""
    server = Provider()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def ask(url: str, question: str) -> Any:
    """The provider's answer. Raises `OSError`, `http.client.HTTPException` and `ValueError`."""
    connection = HTTPConnection(url.removeprefix("http://").rstrip("/"), timeout=30)
    with closing(connection):
        connection.request("POST", "/", question.encode())
        with connection.getresponse() as response:
            body = response.read()
            if response.status != 200:
                raise OSError(response.status)
            return json.loads(body)


def _work(directory: str, url: str, name: str, calls: int, per_day: float) -> None:
    """Ask so many questions, and say a letter once each was answered."""
    from ledgers import PRICES

    from tiercache import BudgetExceeded, DiskTier, MemoryTier, TieredCache
    from tiercache.codecs import JSONCodec

    cache = TieredCache(
        [MemoryTier(), DiskTier(directory, deadline=20)],
        codec=JSONCodec(),
        prices=PRICES,
        model="m",
        budget=per_day or None,
    )
    for number in range(calls):
        key = f"{name} {number}"
        try:
            cache.get_or_load(key, lambda key: ask(url, key))
        except BudgetExceeded:
            sys.stdout.write("x")
        else:
            sys.stdout.write("a")
        cache.get(key)
        sys.stdout.flush()
    cache.close()


if __name__ == "__main__":
    _work(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), float(sys.argv[5]))
