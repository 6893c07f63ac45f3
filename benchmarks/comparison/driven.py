"""The program of a `Driven` process of Python: ``python -m benchmarks.comparison.driven NAME JSON``.

A blocking cache gets a thread a command, one that is awaited a task. A loader notes each call as a line in a
file, so that those of several processes are counted together.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.comparison import awaited, caches, ours, programs, stores
from benchmarks.comparison.adapter import MISS, Absent, Adapter

ADAPTERS: dict[str, type[Adapter]] = {
    **ours.ADAPTERS,
    **awaited.ADAPTERS,
    **caches.ADAPTERS,
    **stores.ADAPTERS,
}

_writing = threading.Lock()


class LoaderFailed(Exception):
    """What a loader that fails raises."""


def loader(log: str, value: Any, seconds: float, fails: bool, awaited: bool) -> Callable[[], Any]:
    """A function of no arguments that makes the value."""

    def begin() -> None:
        with Path(log).open("a") as file:
            file.write("a call\n")

    def end() -> Any:
        if fails:
            raise LoaderFailed("the source is away")
        return value

    def make() -> Any:
        begin()
        time.sleep(seconds)
        return end()

    async def amake() -> Any:
        begin()
        await asyncio.sleep(seconds)
        return end()

    return amake if awaited else make


def call(cache: Any, op: str, args: list[Any]) -> Any:
    """Do it; gives the value, `MISS` or something to await. Raises `Absent` where the cache has no such
    operation at all."""
    if op == "ready":
        return True
    if op in programs.PROGRAMS:
        program = programs.PROGRAMS[op](cache, *args)
        return program if cache.awaited else asyncio.run(program)
    name, args = (f"can_{args[0]}", args[1:]) if op == "feature" else (op, args)
    if not hasattr(cache, name):
        raise Absent(name)
    if op.startswith("load"):
        key, *about = args
        return getattr(cache, op)(key, loader(*about, cache.awaited))
    return getattr(cache, name)(*args)


def answered(number: int, start: float, value: Any = MISS, error: BaseException | None = None) -> None:
    answer: dict[str, Any] = {"id": number, "seconds": time.monotonic() - start}
    if error is not None:
        answer["error"] = f"{type(error).__name__}: {error}"[:300]
    elif value is MISS:
        answer["miss"] = True
    else:
        answer["value"] = value
    with _writing:
        print(json.dumps(answer, default=repr), flush=True)


def in_threads(cache: Adapter) -> None:
    def work(told: dict[str, Any]) -> None:
        start = time.monotonic()
        try:
            answered(told["id"], start, call(cache, told["op"], told["args"]))
        except BaseException as error:  # noqa: BLE001 - what was raised is what is asked for
            answered(told["id"], start, error=error)

    for line in sys.stdin:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()


async def in_tasks(cache: Adapter) -> None:
    tasks: dict[int, asyncio.Task[None]] = {}

    async def work(told: dict[str, Any]) -> None:
        start = time.monotonic()
        try:
            value = call(cache, told["op"], told["args"])
            answered(told["id"], start, await value if inspect.isawaitable(value) else value)
        except BaseException as error:  # noqa: BLE001 - a cancelled one too
            answered(told["id"], start, error=error)

    while line := await asyncio.to_thread(sys.stdin.readline):
        told = json.loads(line)
        if told["op"] == "cancel":
            tasks[told["args"][0]].cancel()
            answered(told["id"], time.monotonic(), True)
        else:
            tasks[told["id"]] = asyncio.create_task(work(told))


def main() -> None:
    logging.disable(logging.CRITICAL)
    name, told = sys.argv[1], json.loads(sys.argv[2])
    made = ADAPTERS[name]
    if made.awaited:

        async def run() -> None:
            cache = made(told)
            await cache.begin()
            await in_tasks(cache)

        asyncio.run(run())
    else:
        in_threads(made(told))


if __name__ == "__main__":
    main()
