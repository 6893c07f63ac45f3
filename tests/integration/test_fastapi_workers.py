"""A real server of two workers over one disk tier: uvicorn's own processes, asked over the network."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from scraped import samples, value
from talking import hear
from waiting import LIMIT, until

TESTS = Path(__file__).parent.parent


class Server:
    """The server's address, its folder, and connections to each of its workers."""

    def __init__(self, url: str, folder: Path, stack: ExitStack) -> None:
        self.url, self.folder, self._stack = url, folder, stack

    def connections(
        self, each: int, *, workers: int = 2, without: int | None = None
    ) -> dict[int, list[httpx.Client]]:
        """By the process of the worker that has it: a connection stays with one."""
        found: dict[int, list[httpx.Client]] = {}

        def enough() -> bool:
            client = self._stack.enter_context(httpx.Client(base_url=self.url, timeout=LIMIT))
            try:
                worker = int(client.get("/worker").headers["x-worker"])
            except httpx.TransportError:  # it was on its way to one that is no more
                return False
            if worker != without:
                found.setdefault(worker, []).append(client)
            return len(found) >= 2 and all(len(clients) >= each for clients in found.values())

        until(enough, "a connection to each worker")
        return found

    def runs(self, name: str) -> list[int]:
        """The workers that ran the handler for ``name``."""
        lines = (self.folder / "runs").read_text().split("\n") if (self.folder / "runs").exists() else []
        return [int(line.split()[1]) for line in lines if line.split()[:1] == [name]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("workers")
    path = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, str(TESTS / "fastapi_server.py"), str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    try:
        with ExitStack() as stack:
            yield Server(f"http://127.0.0.1:{hear(process)['port']}", folder, stack)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(LIMIT)
        finally:
            process.kill()
            process.stdout.close()
    assert code in (0, -signal.SIGTERM)


def test_each_tier_is_told_and_a_tag_is_good_for_both_workers(server):
    (one, *_), (other, *_) = server.connections(1).values()
    told = [client.get("/page/tea").headers for client in (one, one, other, other)]
    assert [headers["x-cache"] for headers in told] == ["miss", "memory", "disk", "memory"]
    assert len({headers["x-worker"] for headers in told}) == 2
    assert len({headers["etag"] for headers in told}) == 1
    for client in one, other:
        known = client.get("/page/tea", headers={"if-none-match": told[0]["etag"]})
        assert (known.status_code, known.content, known.headers["x-cache"]) == (304, b"", "memory")
        assert "content-length" not in known.headers
    assert len(server.runs("tea")) == 1


def test_a_herd_on_both_workers_runs_the_handler_once(server):
    clients = [client for some in server.connections(6).values() for client in some]
    (server.folder / "closed").touch()
    with ThreadPoolExecutor(len(clients)) as pool:
        herd = [pool.submit(client.get, "/page/herd") for client in clients]
        until(lambda: server.runs("herd"), "a run")
        (server.folder / "closed").unlink()
        found = [asked.result(LIMIT) for asked in herd]
    assert len(server.runs("herd")) == 1
    assert {response.status_code for response in found} == {200}
    assert len({response.content for response in found}) == 1
    assert len({response.headers["x-worker"] for response in found}) == 2
    assert [response.headers["x-cache"] for response in found].count("miss") >= 1


@pytest.mark.slow
def test_a_worker_that_is_killed_takes_nothing_with_it(server):
    connections = server.connections(2)
    (victim, (asking, other)), (survivor, (waiting, *_)) = (
        (worker, clients[:2]) for worker, clients in connections.items()
    )
    other.get("/page/safe")
    (server.folder / "closed").touch()
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(asking.get, "/page/lost")
        until(lambda: server.runs("lost") == [victim], "the run of the one that is killed")
        waits = pool.submit(waiting.get, "/page/lost")
        os.kill(victim, signal.SIGKILL)
        (server.folder / "closed").unlink()
        assert isinstance(lost.exception(LIMIT), httpx.TransportError)
        found = waits.result(LIMIT)  # whoever holds a lease and is gone is not waited for for ever
    assert (found.status_code, int(found.headers["x-worker"])) == (200, survivor)
    assert server.runs("lost")[-1] == survivor
    assert waiting.get("/page/safe").headers["x-cache"] == "disk"
    # The server starts another worker, which finds all of it.
    newer = server.connections(1, without=victim)
    assert survivor in newer
    (client,) = (clients[0] for worker, clients in newer.items() if worker != survivor)
    for name in "safe", "lost":
        assert client.get(f"/page/{name}").headers["x-cache"] == "disk"


@pytest.mark.slow
def test_health_and_the_metrics_of_all(server):
    for clients in server.connections(1).values():
        assert clients[0].get("/health/ready").json()["status"] == "ok"
        clients[0].get("/page/counted")

    scraped: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}

    def sum_is_there() -> bool:
        scraped.update(samples(httpx.get(f"{server.url}/metrics").text))
        shop = frozenset({("cache", "shop")})
        return all(scraped.get((f"tiercache_{name}_total", shop), 0) >= 1 for name in ("hits", "loads"))

    until(sum_is_there, "the sum of both workers")
    # Each worker that is asked tells the same ledger, and tells it once. A scrape does not wait for it long;
    # and what another test killed in the middle of its run is in none.
    clients = [clients[0] for clients in server.connections(1).values()]

    def all_calls_are_told() -> bool:
        told = [
            value(samples(client.get("/metrics").text), "tiercache_ledger_calls", cache="shop", model="")
            for client in clients
        ]
        runs = len((server.folder / "runs").read_text().splitlines()) - bool(server.runs("lost"))
        assert max(told) <= runs
        return told == [runs] * len(clients)

    until(all_calls_are_told, "each worker's ledger")


def test_head_over_the_network(server):
    (client, *_), _ = server.connections(1).values()
    got = client.get("/page/whole")
    assert int(got.headers["content-length"]) == len(got.content) > 500
    assert got.headers["date"]
    for _ in range(2):  # on one connection: no byte too many, and none too few
        head = client.head("/page/whole")
        assert (head.status_code, head.content, head.headers["x-cache"]) == (200, b"", "memory")
        assert head.headers["content-length"] == got.headers["content-length"]
        assert client.get("/page/whole").content == got.content
