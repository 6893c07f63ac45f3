"""One try: a peer, a folder and a server that nothing else uses, and what the checks need of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.comparison.driver import Answer, Driven, Running
from benchmarks.comparison.peers import Peer
from benchmarks.comparison.place import Server, serving

__all__ = ["Claim", "DoesNotApply", "Missing", "Try", "together", "trying"]


class DoesNotApply(Exception):
    """The question has no sense here: somebody who keeps nothing on a server cannot lose it."""


class Missing(Exception):
    """It could have this, and has not: the row says no."""


@dataclass(frozen=True)
class Claim:
    """A row of a table: the question, and the function that answers it of one peer."""

    name: str
    question: str
    check: Callable[[Try], str]


class Try:
    def __init__(self, peer: Peer, base: Path, modules: Path | None, stack: ExitStack) -> None:
        self.peer, self.base, self._modules, self._stack = peer, base, modules, stack
        self.log = base / "loads"
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        """Its server; raises `DoesNotApply` for who has none."""
        if not self.peer.served:
            raise DoesNotApply
        if self._server is None:
            self._server = self._stack.enter_context(serving())
        return self._server

    def open(self, folder: str = "a", tasks: bool = False, **told: Any) -> Driven:
        """One more process with the cache; ``folder`` is a machine's."""
        if self.peer.served and not told.get("disk_alone"):
            told.setdefault("port", self.server.port)
        told["folder"] = str(self.base / folder)
        return self._stack.enter_context(self.peer.open(told, self._modules, tasks))

    def about(self, value: Any, seconds: float = 0, fails: bool = False) -> list[Any]:
        """What a loader is told."""
        return [str(self.log), value, seconds, fails]

    def loads(self) -> int:
        """How often loaders were called so far."""
        return len(self.log.read_text().splitlines()) if self.log.exists() else 0

    def wait_for_loads(self, count: int) -> None:
        """Until so many have begun."""
        end = time.monotonic() + 20
        while self.loads() < count:
            if time.monotonic() > end:
                raise TimeoutError("no loader was called")
            time.sleep(0.01)

    def filled(self, cache: Driven, key: str, value: Any) -> None:
        """Have it keep a value, by a load where it has nothing else."""
        answer = cache.do("set", key, value)
        if answer.absent:
            answer = cache.do("load", key, *self.about(value))
        if "error" in answer:
            raise AssertionError(answer["error"])


def together(runs: list[Running], within: float = 30) -> list[Answer]:
    return [run.answer(within) for run in runs]


@contextmanager
def trying(peer: Peer, base: Path, modules: Path | None) -> Iterator[Try]:
    with ExitStack() as stack:
        yield Try(peer, base, modules, stack)
