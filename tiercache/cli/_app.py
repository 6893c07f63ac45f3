"""The `tiercache` command: which commands there are, and what becomes of their errors.

Each command is in a module of its own, imported when it is called or its help is asked for; what
`tiercache --help` prints of them is in `COMMANDS`.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from tiercache import __version__
from tiercache.cli._context import CONTEXT, Failed, Settings, shared
from tiercache.cli._output import note
from tiercache.errors import ConfigError, TierCacheError

__all__ = ["COMMANDS", "run"]

#: Each command: where it is, and its help in one line. A test compares that with its docstring.
COMMANDS = {
    "init": ("tiercache.cli.init:init", "Write a commented configuration."),
    "check": ("tiercache.cli.check:check", "Tell whether a configuration is in order."),
    "schema": ("tiercache.cli.schema:schema", "Print the JSON Schema of configurations."),
    "stats": (
        "tiercache.cli.stats:stats",
        "Show what the processes of this machine have counted.",
    ),
    "report": (
        "tiercache.cli.report:report",
        "Tell what the cache holds, hits, costs and saves.",
    ),
    "get": ("tiercache.cli.values:get", "Write the value under KEY to stdout."),
    "set": ("tiercache.cli.values:set_value", "Store VALUE, or what stdin holds, under KEY."),
    "delete": ("tiercache.cli.values:delete", "Drop KEYS from every tier."),
    "keys": ("tiercache.cli.keys:keys", "List the live keys."),
    "inspect": ("tiercache.cli.inspection:inspect", "Show which tiers hold KEY, and what they know of it."),
    "clear": ("tiercache.cli.dropping:clear", "Drop all entries of the cache."),
    "purge": ("tiercache.cli.dropping:purge", "Drop entries by their age."),
    "warm": ("tiercache.cli.warm:warm", 'Store the entries that the lines of FILE describe ("-": stdin).'),
    "export": ("tiercache.cli.archives:export", "Write all entries to an archive: FILE, or stdout."),
    "import": ("tiercache.cli.archives:import_", "Store the entries of an archive: FILE, or stdin."),
    "migrate": ("tiercache.cli.migrate:migrate", "Copy what a store or cache of LangChain holds."),
    "bench": (
        "tiercache.cli.bench:bench",
        "Measure each tier, and the chain of them, on this machine.",
    ),
    "roi": ("tiercache.cli.roi:roi", "Project what a cache saves in money and waiting."),
    "demo": (
        "tiercache.cli.demo_command:demo",
        "Embed real text with a real model, and then not embed it again.",
    ),
}
#: The variable in which a shell asks for completions, as click's scripts for them have it.
_COMPLETE = "_TIERCACHE_COMPLETE"
#: Those that are for other processes of ours.
_HIDDEN = {"demo-pass": "tiercache.cli.demo_command:demo_pass"}


class _Commands(click.Group):
    """The commands, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        where = COMMANDS[cmd_name][0] if cmd_name in COMMANDS else _HIDDEN.get(cmd_name)
        if where is None:
            return None
        module, _, name = where.partition(":")
        found: click.Command = getattr(import_module(module), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        # click's own would look for what is alike among commands that are imported already: there are none.
        name = args[0]
        if not ctx.resilient_parsing and not name.startswith("-") and self.get_command(ctx, name) is None:
            close = get_close_matches(name.lower(), COMMANDS, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise click.UsageError(f"No such command {name!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        # click's own asks each command for its help, and so imports them all.
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=_Commands, context_settings=CONTEXT, params=shared())
@click.version_option(__version__, prog_name="tiercache")
def command_line() -> None:
    """A multi-tier cache for Python: memory over disk over SQL or Redis.

    The configuration is the FILE that -c names, or else $TIERCACHE_CONFIG, or the nearest tiercache.toml
    (or [tool.tiercache] in a pyproject.toml) from here upward.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. Errors become a line or two on stderr, without a traceback unless
    ``--debug`` asks for it."""
    settings = Settings()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a key may have letters that a locale cannot write
    heard = _Told(settings)
    try:
        with _heard(heard):
            code = _invoke(arguments, settings)
            sys.stdout.flush()  # what cannot be written is an error of the command, not of what comes after
    except click.Abort:  # click's name for Ctrl-C at a question
        raise KeyboardInterrupt from None
    except Exception as error:
        if settings.debug and not isinstance(error, click.UsageError):
            traceback.print_exc()
        if isinstance(error, ImportError | OSError):
            raise  # `main` tells those: it meets them before this module is there
        return _told(error, heard.reasons)
    return code if isinstance(code, int) else 0


def _invoke(arguments: Sequence[str], settings: Settings) -> Any:
    """What the command returns. Not click's own `main`, which ends the process where a pipe is closed, and
    writes an empty line at Ctrl-C; that answers a shell which asks for completions, and nothing else."""
    if _COMPLETE in os.environ:
        return command_line.main(list(arguments), prog_name="tiercache", complete_var=_COMPLETE)
    try:
        with command_line.make_context("tiercache", list(arguments), obj=settings) as context:
            return command_line.invoke(context)
    except click.exceptions.Exit as end:  # of --help, for instance
        return end.exit_code


def _told(error: Exception, known: Sequence[str]) -> int:
    """Tell ``error`` on stderr, without the reasons that are ``known`` there; the exit code."""
    if isinstance(error, Failed):
        note(_shortened(error.message, known))
        return error.exit_code
    if isinstance(error, click.ClickException):
        text = error.format_message()
        context = getattr(error, "ctx", None)
        if context is not None and not text.startswith("Usage:"):  # so begins a group's help
            text = f"{context.command_path}: {text}\nTry '{context.command_path} --help'."
        click.echo(text, err=True)
        return error.exit_code
    if isinstance(error, TierCacheError):
        note(_shortened(str(error), known))
        return 2 if isinstance(error, ConfigError) else 1
    first, *_ = str(error).splitlines() or [""]
    note(f"{type(error).__name__}: {first}; --debug shows where it comes from")
    return 1


def _shortened(text: str, known: Sequence[str]) -> str:
    for reason in known:
        text = text.replace(f" ({reason})", "").replace(f": {reason}", "")
    return text


class _Told(logging.Handler):
    """Tells what the chain logs in a line each; where it comes from, for ``--debug``. ``reasons`` are those
    that were told with them: an error that has one too is told without it."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(logging.WARNING)
        self._settings = settings
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        given = record.args if isinstance(record.args, tuple) else ()
        self.reasons += [one for one in given if isinstance(one, str) and ": " in one]
        note(record.getMessage())
        if self._settings.debug and record.exc_info and record.exc_info[1] is not None:
            traceback.print_exception(record.exc_info[1])


@contextmanager
def _heard(handler: _Told) -> Iterator[None]:
    """While this lasts, what tiercache logs and what Python warns of is told as errors are."""
    logger = logging.getLogger("tiercache")
    logger.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_args, **_options: note(str(message))
            yield
    finally:
        logger.removeHandler(handler)
