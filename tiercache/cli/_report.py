"""What the demo shows: progress on stderr, and a table (or one JSON object) on stdout."""

from __future__ import annotations

import io
import json
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tiercache.cli._model import LocalEmbeddings
from tiercache.cli._passes import Pass, Place

__all__ = ["Answer", "Comparison", "Report", "Screen"]

#: Characters a line where nobody tells how many there are: in a pipe.
WIDTH = 100

Begin = Callable[[str], Callable[[int], None]]


@dataclass(frozen=True, slots=True)
class Answer:
    """The chunk that answers a question best, and how alike the two are (cosine, at most 1)."""

    question: str
    topic: str
    score: float
    text: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many cached vectors were compared with the model's own; the topics of those that differ; the
    passes that gave other vectors than the first."""

    with_model: int
    wrong_topics: tuple[str, ...]
    wrong_passes: tuple[str, ...]

    @property
    def identical(self) -> bool:
        """Whether all of them are the same, bit by bit."""
        return not self.wrong_topics and not self.wrong_passes


@dataclass(frozen=True, slots=True)
class Report:
    """All that the demo found out."""

    documents: int
    chunks: int
    model: LocalEmbeddings
    passes: Sequence[Pass]
    comparison: Comparison
    answers: Sequence[Answer]
    folder: Path
    kept: bool

    @property
    def is_cold(self) -> bool:
        """Whether the first pass found nothing, so that it shows what embedding everything takes."""
        return self.passes[0].model_calls == self.chunks

    @property
    def seconds_per_text(self) -> float:
        """What the model took for a text, in this run."""
        return self.model.seconds / self.model.calls

    @property
    def saved_calls(self) -> int:
        """Texts that the model was not asked for."""
        return sum(self.chunks - one.model_calls for one in self.passes)

    def speed_up(self, one: Pass) -> float:
        """How many times faster ``one`` was than embedding everything (measured, or else estimated from
        the texts that were embedded)."""
        cold = self.passes[0].seconds if self.is_cold else self.chunks * self.seconds_per_text
        return cold / one.seconds

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON. Times are seconds."""
        return {
            "model": {"name": self.model.name, "dimensions": self.model.dimensions},
            "documents": self.documents,
            "chunks": self.chunks,
            "passes": [{**asdict(one), "speed_up": self.speed_up(one)} for one in self.passes],
            "speed_up_is": "measured" if self.is_cold else "estimated",
            "bit_identical": self.comparison.identical,
            "comparison": asdict(self.comparison),
            "answers": [asdict(answer) for answer in self.answers],
            "saved": {
                "model_calls": self.saved_calls,
                "model_seconds": self.saved_calls * self.seconds_per_text,
            },
            "directory": str(self.folder) if self.kept else None,
        }


class Screen:
    """Where the demo writes. Colours and a moving bar on a terminal only."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")  # the text has letters that some locales cannot write
        # No markup and no emoji: the text has square brackets and colons of its own.
        self._out, self._err = (
            Console(markup=False, emoji=False, highlight=False, stderr=stderr) for stderr in (False, True)
        )
        if not self._out.is_terminal:
            self._out.width = WIDTH

    def begin(self, *, documents: int, chunks: int, model: LocalEmbeddings, place: Place) -> None:
        """Say what is about to happen."""
        if not self._as_json:
            lowest = "redis" if place.redis else "sqlite"
            self._out.print(
                f"{chunks:,} chunks from {documents:,} documents, through {model.name} "
                f"({model.dimensions} floats a chunk) and memory > disk > {lowest}",
                style="bold",
                soft_wrap=True,
            )

    @contextmanager
    def progress(self, total: int) -> Iterator[Begin]:
        """A bar a pass. The function in the ``with`` begins one (which ends the one before), and returns
        what hears of texts done."""
        columns = (
            TextColumn("{task.description:<13}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        bars = Progress(*columns, console=self._err, disable=not self._err.is_terminal)

        def complete() -> None:
            for task in bars.task_ids:
                bars.update(task, completed=total)

        def begin(name: str) -> Callable[[int], None]:
            complete()
            task = bars.add_task(name, total=total)
            return lambda count: bars.advance(task, count)

        with bars:
            yield begin
            complete()

    def interrupted(self, stored: int, command: Sequence[str]) -> None:
        """Say what Ctrl-C left behind, and the ``command`` that goes on from it (empty for nothing left)."""
        line = "tiercache: interrupted"
        if command:
            line += f"; {stored:,} new vectors are kept, and the next run goes on from there: "
            line += shlex.join(command)
        self._err.print(line, soft_wrap=True)

    def show(self, report: Report) -> None:
        """The result; what is wrong with it goes to stderr."""
        if self._as_json:
            click.echo(json.dumps(report.as_dict(), indent=2))
        else:
            self._out.print(_table(report))
            self._out.print("Seconds are those of the look-up, without the start of a process.", style="dim")
            if not report.is_cold:
                self._out.print(
                    "Speed-ups (~) are over an estimate: an earlier run had embedded some of the text.",
                    style="dim",
                )
            self._out.print()
            self._show_answers(report)
            self._show_savings(report)
        comparison = report.comparison
        if comparison.wrong_topics:
            self._err.print(
                f"tiercache: the cache and the model disagree over {len(comparison.wrong_topics)} of "
                f"{comparison.with_model} vectors, the first from {comparison.wrong_topics[0]!r}: another "
                f"model, or another kind of processor, has written to this cache",
                soft_wrap=True,
            )
        for name in comparison.wrong_passes:
            self._err.print(f"tiercache: the pass {name!r} gave other vectors than the first", soft_wrap=True)

    def _show_answers(self, report: Report) -> None:
        for answer in report.answers:
            self._out.print(answer.question, style="bold")
            self._out.print(f"  {answer.topic} (cosine {answer.score:.3f})", style="green")
            words = " ".join(answer.text.split())
            self._out.print(Padding(textwrap.shorten(words, 150, placeholder=" ..."), (0, 0, 0, 2)))

    def _show_savings(self, report: Report) -> None:
        comparison = report.comparison
        if comparison.identical:
            self._out.print(
                f"\nBit-identical: all {report.chunks:,} vectors in every pass, and {comparison.with_model} "
                f"of them with what the model says anew."
            )
        seconds = report.saved_calls * report.seconds_per_text
        where = f"is kept in {report.folder}" if report.kept else "was temporary; --dir DIR keeps it"
        self._out.print(
            f"Saved: {report.saved_calls:,} model calls, {seconds:.1f} s of the model's time. "
            f"The cache {where}.",
            soft_wrap=True,
        )


def _table(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("pass", vertical="bottom")
    for tier in report.passes[0].hits:
        table.add_column(f"{tier}\nhits", justify="right")
    for heading in ("promo-\ntions", "model\ncalls", "seconds", "speed-up"):
        table.add_column(heading, justify="right")
    for one in report.passes:
        # A first pass that found something is not cold.
        name = "first" if one is report.passes[0] and not report.is_cold else one.name
        about = "" if report.is_cold else "~"
        table.add_row(
            name,
            *(f"{count:,}" for count in one.hits.values()),
            f"{sum(one.promotions.values()):,}",
            f"{one.model_calls:,}",
            f"{one.seconds:.4f}",
            f"{about}{report.speed_up(one):,.0f} x",
        )
    return table
