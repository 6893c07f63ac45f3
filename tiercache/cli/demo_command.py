"""`tiercache demo`: its flags. What it does is in `tiercache.cli.demo`, which needs more packages."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tiercache.cli._context import command, count
from tiercache.errors import MissingPackage

__all__ = ["demo", "demo_pass"]


@command()
@click.option("--limit", type=count, metavar="N", help="Embed the first N chunks only.")
@click.option(
    "--text",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Embed the .txt, .md and .rst files under DIR instead of Python's documentation.",
)
@click.option(
    "--question",
    "questions",
    multiple=True,
    metavar="TEXT",
    help="Ask this of the embedded text (once or more) instead of the demo's own two questions.",
)
@click.option("--redis", metavar="URL", help="Redis or Valkey as the lowest tier instead of SQLite.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep the cache in DIR, so that the next run begins where this one ended.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def demo(
    limit: int | None,
    text: Path | None,
    questions: tuple[str, ...],
    redis: str | None,
    folder: Path | None,
    as_json: bool,
) -> int:
    """Embed real text with a real model, and then not embed it again.

    Four passes over the same text: cold; warm (from memory); in a new process (from disk); and as
    another machine sees it (from SQL or Redis). Needs no network, and no configuration.
    """
    try:
        from tiercache.cli.demo import Options, run_demo

        return run_demo(Options(limit, text, questions, redis, folder, as_json))
    except ImportError as error:
        package = (error.package if isinstance(error, MissingPackage) else error.name or "").split(".")[0]
        if package in ("", "tiercache"):
            raise  # that is no missing package
        raise MissingPackage(package, "demo", "the command") from error  # one extra has all of them


@command("demo-pass", hidden=True)
def demo_pass() -> None:
    """One pass of the demo, for its parent process: a request on stdin, the result on stdout."""
    from tiercache.cli._passes import answer

    click.echo(answer(sys.stdin.buffer.read()))
