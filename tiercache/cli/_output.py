"""How the commands show what they found: tables and colours on a terminal, plain aligned text in a pipe.

Results go to stdout; what a user should know besides, and progress, to stderr. Nothing here writes a value of
the cache; keys are shown by `printable`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import click

from tiercache.archive import _streams

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Column", "Styled", "age", "note", "printable", "progress", "rich_table", "say", "show_json",
    "show_table", "weight", "write",
]  # fmt: skip


class Column(NamedTuple):
    """A column of a table: its heading, and whether it is of figures, which stand to the right."""

    heading: str
    figures: bool = False


class Styled(NamedTuple):
    """A cell that has a style of rich's on a terminal, such as ``"red"``."""

    text: str
    style: str


def say(text: str) -> None:
    """A line on stdout."""
    click.echo(text)


def write(data: bytes) -> None:
    """``data`` on stdout, as it is and whole."""
    _streams.write(sys.stdout.buffer, data)
    _streams.flush(sys.stdout.buffer)


def note(text: str) -> None:
    """A line on stderr: what a user should know besides the result."""
    click.echo(f"tiercache: {text}", err=True)


def show_json(data: Any) -> None:
    """``data`` as JSON on stdout, in ASCII: lone surrogates are legal in keys, and in no encoding."""
    click.echo(json.dumps(data, indent=2))


def show_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Styled]]) -> None:
    """A table on stdout. In a pipe its columns are two spaces apart, and no cell is cut or wrapped."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(rich_table(columns, rows))
        return
    lines = [[column.heading for column in columns]]
    lines += [[cell.text if isinstance(cell, Styled) else cell for cell in row] for row in rows]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        cells = (
            cell.rjust(width) if column.figures else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        click.echo("  ".join(cells).rstrip())


def rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str | Styled]]) -> Table:
    """The table as it is on a terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.figures else "left"
        table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=column.figures)
    for row in rows:
        # Text, and not str: a key may have square brackets of its own.
        table.add_row(*(Text(*cell) if isinstance(cell, Styled) else Text(cell) for cell in row))
    return table


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal; what the ``with`` gives hears how many more are done.
    Without a ``total`` it counts."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.advance(task, count)


def printable(key: str) -> str:
    """``key`` on one line of any terminal: what cannot be shown, or would steer the terminal, is escaped as
    in Python (``\\n``, ``\\x1b``, ``\\ud800``). JSON is exact."""
    if key.isprintable():
        return key
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in key)


def weight(size: int | None) -> str:
    """Bytes as people read them; "-" where nobody knows."""
    if size is None:
        return "-"
    if size < 1024:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"


def age(seconds: float | None) -> str:
    """A duration as people read it, its two largest units; "-" where nobody knows."""
    if seconds is None:
        return "-"
    left = round(max(seconds, 0))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, length)
        if number or (unit == "s" and not parts):
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])
