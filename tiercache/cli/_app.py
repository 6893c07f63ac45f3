"""The command line: its subcommands, their flags, and what becomes of their errors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from tiercache import __version__
from tiercache.errors import ConfigError, MissingPackage, TierCacheError

__all__ = ["run"]


def run(arguments: Sequence[str]) -> int:
    """Run one subcommand; the exit code. Errors of ours become one line on stderr, without a traceback."""
    try:
        # Not click's own mode, which would end the process, and turn Ctrl-C into exit code 1.
        code = command_line.main(list(arguments), prog_name="tiercache", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except MissingPackage:
        raise  # `main` knows which packages the command needs as a whole
    except click.Abort:  # click's name for Ctrl-C
        raise KeyboardInterrupt from None
    except TierCacheError as error:
        click.echo(f"tiercache: {error}", err=True)
        return 2 if isinstance(error, ConfigError) else 1
    return code if isinstance(code, int) else 0


def _count(text: str) -> int:
    """``text`` as a whole number above zero."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise click.BadParameter(f"{text!r} is not a whole number above zero")
    return number


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def command_line() -> None:
    """A multi-tier cache for Python: memory over disk over SQL or Redis."""


@command_line.command()
@click.option("--limit", type=_count, metavar="N", help="Embed the first N chunks only.")
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
    another machine sees it (from SQL or Redis). Needs no network.
    """
    from tiercache.cli.demo import Options, run_demo

    return run_demo(Options(limit, text, questions, redis, folder, as_json))


@command_line.command("demo-pass", hidden=True)
def demo_pass() -> None:
    """One pass of the demo, for its parent process: a request on stdin, the result on stdout."""
    from tiercache.cli._passes import answer

    click.echo(answer(sys.stdin.buffer.read()))
