"""A cache in a process of its own, told over pipes what to do: a line of JSON each way.

So that all are tried by the same program, whatever language they are in and whether they block or are
awaited, and so that each can be killed. What a process is told: ``op`` and its ``args``. It answers with
``value``, or ``miss``, or ``error`` (the name of what was raised, and its text), and the ``seconds`` it took.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

__all__ = ["PROJECT", "Answer", "Driven", "Running"]

PROJECT = Path(__file__).parents[2]


class Answer(dict[str, Any]):
    """What came of a command."""

    @property
    def said(self) -> str:
        """In words: a value, a miss, the name of an error, or that there was no answer."""
        if not self:
            return "no answer"
        if "error" in self:
            return f"raises `{self['error'].partition(':')[0]}`"
        return "a miss" if self.get("miss") else "the value"

    @property
    def absent(self) -> bool:
        """The cache has no such operation."""
        return str(self.get("error", "")).startswith("Absent")


class Running:
    """A command whose answer is yet to come."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()

    def arrived(self, answer: Answer) -> None:
        self._answers.put(answer)

    def answer(self, within: float = 30) -> Answer:
        """The answer; an empty one where none comes in time."""
        try:
            return self._answers.get(timeout=within)
        except queue.Empty:
            return Answer()


class Driven(AbstractContextManager["Driven"]):
    """The process. ``told`` is what the cache is made from: its folder, the port of its server, …"""

    def __init__(self, command: Sequence[str], told: dict[str, Any]) -> None:
        self._numbers = itertools.count()
        self._running: dict[int, Running] = {}
        self._log = Path(told["folder"]).parent / f"log-{id(self)}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own programs
                [*command, json.dumps(told)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                bufsize=1,
                cwd=PROJECT,
                env={**os.environ, "PYTHONPATH": str(PROJECT), "PYTHONWARNINGS": "ignore"},
            )
        self._ears = threading.Thread(target=self._hear, daemon=True)
        self._ears.start()
        if "value" not in (first := self.do("ready")):
            self.kill()
            raise RuntimeError(f"{command}: {first} {self._log.read_text()[-2000:]}")

    @classmethod
    def python(cls, name: str, told: dict[str, Any]) -> Driven:
        return cls([sys.executable, "-m", "benchmarks.comparison.driven", name], told)

    def start(self, op: str, *args: Any) -> Running:
        """Begin it, and don't wait."""
        number = next(self._numbers)
        running = self._running[number] = Running(number)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"id": number, "op": op, "args": args}) + "\n")
        except BrokenPipeError:
            running.arrived(Answer(error="Ended: " + self._log.read_text()[-500:]))
        return running

    def do(self, op: str, *args: Any, within: float = 30) -> Answer:
        return self.start(op, *args).answer(within)

    def _hear(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer = Answer(json.loads(line))
                self._running.pop(answer["id"]).arrived(answer)
        for running in list(self._running.values()):
            running.arrived(Answer(error="Ended: " + self._log.read_text()[-500:]))

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()
        self._process.wait()
        self._ears.join()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(BrokenPipeError):  # what it was not there to read any more
                assert pipe is not None
                pipe.close()

    def __exit__(self, *_raised: object) -> None:
        if self._process.poll() is None:
            self.do("close", within=5)
        self.kill()
