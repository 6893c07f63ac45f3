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
    from rich.console import RenderableType
    from rich.table import Table
    from rich.text import Text

__all__ = [
    "Column", "Styled", "age", "cells_of", "laid_out", "note", "printable", "progress", "say", "show_json",
    "show_table", "weight", "write",
]  # fmt: skip

#: Characters, at least, that a column of text has where it is wrapped.
_LEGIBLE = 12
#: More columns than a table has anywhere.
_BOUNDLESS = 100_000


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

        console = Console()
        console.print(laid_out(columns, rows, console.width))
        return
    lines = [[column.heading for column in columns]]
    lines += [list(map(_text, row)) for row in rows]
    widths = [max(cells_of(line[number]) for line in lines) for number in range(len(columns))]
    for line in lines:
        cells = []
        for cell, width, column in zip(line, widths, columns, strict=True):
            blank = " " * (width - cells_of(cell))
            cells.append(f"{blank}{cell}" if column.figures else f"{cell}{blank}")
        click.echo("  ".join(cells).rstrip())


def laid_out(columns: Sequence[Column], rows: Sequence[Sequence[str | Styled]], width: int) -> RenderableType:
    """The table as it is on a terminal ``width`` columns wide. Where it is wider, its texts are wrapped if
    that is enough; else each row is a block, a cell after its heading. (rich by itself would break words at
    any letter, and leave out columns.)"""
    from rich.console import Console, Group
    from rich.measure import Measurement

    table = _table(columns, rows)
    console = Console(width=_BOUNDLESS)
    wider = Measurement.get(console, console.options, table).maximum - width
    spare = {
        number: _spare([_text(row[number]) for row in rows])
        for number, column in enumerate(columns)
        if not column.figures
    }
    if wider > sum(spare.values()):
        return Group(*(line for row in rows for line in _block(columns, row, width)))
    for number in sorted(spare, key=spare.__getitem__, reverse=True):
        if wider > 0 and spare[number]:
            longest = max(len(_text(row[number])) for row in rows)
            table.columns[number].max_width = longest - min(wider, spare[number])
            wider -= spare[number]
    return table


def _spare(texts: Sequence[str]) -> int:
    """How many characters narrower a column of ``texts`` can be, and still be read: no word is broken."""
    longest = max(map(len, texts), default=0)
    return max(0, longest - max([_LEGIBLE, *(len(word) for text in texts for word in text.split())]))


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str | Styled]]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, header_style="bold", show_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column.figures else "left"
        table.add_column(column.heading, justify=justify, overflow="fold", no_wrap=column.figures)
    for row in rows:
        table.add_row(*map(_rich, row))
    return table


def _block(columns: Sequence[Column], row: Sequence[str | Styled], width: int) -> Iterator[RenderableType]:
    """The first cell, and below it the others, as many on a line as there is room for; an empty one
    is left out."""
    from rich.padding import Padding
    from rich.text import Text

    title, *cells = row
    indent = len(_text(title)) - len(_text(title).lstrip()) + 2
    yield _rich(title) if isinstance(title, Styled) else Text(title, "bold")
    line = Text()
    for column, cell in zip(columns[1:], cells, strict=True):
        if not _text(cell):
            continue
        one = Text.assemble((f"{column.heading}: ", "dim"), _rich(cell))
        if line and indent + line.cell_len + 2 + one.cell_len > width:
            yield Padding(line, (0, 0, 0, indent), expand=False)
            line = Text()
        line.append_text(Text("  ") if line else Text()).append_text(one)
    if line:
        yield Padding(line, (0, 0, 0, indent), expand=False)


def _text(cell: str | Styled) -> str:
    return cell.text if isinstance(cell, Styled) else cell


def _rich(cell: str | Styled) -> Text:
    """``cell`` as Text, and not as str: a key may have square brackets of its own."""
    from rich.text import Text

    return Text(*cell) if isinstance(cell, Styled) else Text(cell)


@contextmanager
def progress(
    what: str, total: int | None = None, *, in_bytes: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, if that is a terminal; what the ``with`` gives hears how many more are done.
    Without a ``total`` it counts."""
    if not sys.stderr.isatty():
        yield lambda _count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    done = DownloadColumn(binary_units=True) if in_bytes else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(what, total=total)
        yield lambda count: bars.advance(task, count)


def printable(key: str) -> str:
    """``key`` on one line of any terminal: what cannot be shown, or would steer the terminal, is escaped as
    in Python (``\\n``, ``\\x1b``, ``\\ud800``). JSON is exact."""
    if key.isprintable():
        return key
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in key)


def cells_of(text: str) -> int:
    """How many cells of a terminal ``text`` takes: two for a wide character, as of Chinese, and none for an
    accent that stands on the one before."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)


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
