"""A provider of paid answers, played by a local HTTP server that counts what it is asked; and a process that
asks it through a cache."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
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


def _work(
    address: str, url: str, name: str, calls: int, per_day: float, how: str, action: str, threads: int
) -> None:
    """Ask so many questions, and say a letter once each was answered, or why it was not: a for an answer, x
    for a budget that is spent, f for what failed, w for each share of the budget that is told."""
    from ledger_places import tier_at
    from ledgers import PRICES

    from tiercache import Budget, BudgetExceeded, BudgetReached, MemoryTier, TieredCache
    from tiercache.codecs import JSONCodec
    from tiercache.loading import batched

    def say(letter: str) -> None:
        with saying:
            sys.stdout.write(letter)
            sys.stdout.flush()

    def told(event: object) -> None:
        if isinstance(event, BudgetReached):
            say("w")

    @batched
    def load(keys: Sequence[str]) -> dict[str, Any]:
        return {key: ask(url, key) for key in keys}

    def one(number: int) -> None:
        key = f"{name} {number}"
        try:
            cache.get_or_load(key, load if how == "batches" else lambda key: ask(url, key))
        except BudgetExceeded:
            say("x")
        except (OSError, HTTPException, ValueError):
            say("f")
        else:
            say("a")
            cache.get(key)

    saying = threading.Lock()
    paces: dict[str, Any] = {
        "plain": {},
        "concurrency": {"concurrency": threads},
        "batches": {"batch_window": 0.002, "max_batch": 5},
    }
    cache = TieredCache(
        [MemoryTier(), tier_at(address)],
        codec=JSONCodec(),
        prices=PRICES,
        model="m",
        budget=Budget(per_day, action=action) if per_day else None,  # type: ignore[arg-type]  # one of two
        on_event=told,
        **paces[how],
    )
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(calls)))
    cache.close()


if __name__ == "__main__":
    _work(**json.loads(sys.argv[1]))
