"""How far a migration is, on stderr: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Final, TextIO

__all__ = ["progress_of"]

#: Keys between two lines where nobody knows how many there are.
_STRIDE: Final = 10_000

Advance = Callable[[int], None]


@contextmanager
def progress_of(title: str, total: int | None, *, shown: bool) -> Iterator[Advance]:
    """A function to tell of keys done with. ``total``: how many there will be, if anybody knows.

    The bar needs the package ``rich``; without it there are lines on a terminal, too.
    """
    if not shown:
        yield lambda _: None
    elif sys.stderr.isatty() and find_spec("rich") is not None:
        with _bar(title, total) as advance:
            yield advance
    else:
        lines = _Lines(title, total, sys.stderr)
        yield lines.advance
        lines.end()


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),  # a path may hold square brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True, markup=False, emoji=False)) as progress:
        task = progress.add_task(title, total=total)
        yield lambda count: progress.advance(task, count)


class _Lines:
    """A line for each tenth of the keys, and one at the end."""

    def __init__(self, title: str, total: int | None, stream: TextIO) -> None:
        self._title = title
        self._total = total
        self._stream = stream
        self._stride = _STRIDE if total is None else max(1, total // 10)
        self._done = 0
        self._said = -1

    def advance(self, count: int) -> None:
        before, self._done = self._done, self._done + count
        if before // self._stride != self._done // self._stride:
            self._say()

    def end(self) -> None:
        if self._said != self._done:
            self._say()

    def _say(self) -> None:
        self._said = self._done
        of = "" if self._total is None else f" of {self._total:,}"
        print(f"{self._title}: {self._done:,}{of} keys", file=self._stream, flush=True)
