"""What the commands have in common: the flags that all of them take, and the cache that these lead to.

A command is made with ``@command(...)``, a group of commands with ``@group(...)``. It takes a `Settings`
first (``@click.pass_obj``), and ``with open_cache(settings) as cache`` gives it the cache. What it raises as
`Failed` is told on stderr as it is, with exit code 1. What it returns is the exit code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from tiercache._chain.nested import ChainTier
from tiercache._sharing import Publisher
from tiercache.chain import TieredCache
from tiercache.cli._lasting import lasts
from tiercache.errors import ConfigError
from tiercache.units import DURATIONS, duration

__all__ = [
    "ANY_PATH", "CONTEXT", "Failed", "Settings", "command", "count", "for_a_shell", "group", "in_namespace",
    "in_two_lines", "journal_of", "life", "open_cache", "put_off", "shared", "sharings", "span", "stacks",
]  # fmt: skip

#: Whether a file can be read tells who reads it: click would call that a mistake of the command line.
ANY_PATH = click.Path(readable=False)
CONTEXT = {"help_option_names": ["-h", "--help"]}


@dataclass(slots=True)
class Settings:
    """What the flags said that every command takes, before its name or after it."""

    config: str | None = None
    cache: str | None = None
    debug: bool = False


class Failed(click.ClickException):
    """Something is wrong that is no fault of the command line: told in ``message``, and exit code 1."""

    exit_code = 1


# -- flags -----------------------------------------------------------------------------------------


_CACHE = "Which of the caches in it, if there are several."


def shared() -> list[click.Option]:
    """The flags that every command takes. They are remembered in the `Settings`, not passed on."""
    options = (
        (("-c", "--config"), {"metavar": "FILE", "type": ANY_PATH, "help": "The configuration."}),
        (("--cache",), {"metavar": "NAME", "shell_complete": _caches, "help": _CACHE}),
        (("--debug",), {"is_flag": True, "default": None, "help": "Show where an error comes from."}),
    )
    return [click.Option(names, callback=_remember, expose_value=False, **more) for names, more in options]


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None and parameter.name is not None:  # a flag that is not there says nothing
        setattr(context.ensure_object(Settings), parameter.name, value)


def _caches(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The caches that ``incomplete`` may become; none where the configuration cannot be read, of which the
    command that is being typed will tell."""
    try:
        from tiercache.config import cache_names, read  # it needs pydantic

        names = cache_names(read(context.ensure_object(Settings).config).content)
    except Exception:  # noqa: BLE001 - as above
        return []
    return [name for name in names if name.startswith(incomplete)]


class _Command(click.Command):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"context_settings": CONTEXT, **options})
        self.params += shared()


class _Group(click.Group):
    command_class = _Command

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"context_settings": CONTEXT, **options})
        self.params += shared()


#: Decorators: as those of click, with the shared flags.
command: Callable[..., Callable[..., click.Command]] = partial(click.command, cls=_Command)
group: Callable[..., Callable[..., click.Group]] = partial(click.group, cls=_Group)


def span(text: str) -> str:
    """The type of a flag that takes a duration: ``text`` itself, once it is known that it can be read."""
    try:
        seconds = duration(text, name="", zero=True)
    except ConfigError:
        raise click.BadParameter(f"{text!r} is no duration; give text {DURATIONS}") from None
    if not seconds:
        raise click.BadParameter(f"{text!r} is not allowed; give more than zero")
    return text


def life(text: str) -> str:
    """The type of a flag that takes a duration or ``none``."""
    return text if text == "none" else span(text)


def count(text: str) -> int:
    """The type of a flag that takes a whole number above zero; of one that no list is as long as, the longest
    that one can be."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise click.BadParameter(f"{text!r} is not a whole number above zero")
    return min(number, sys.maxsize)


# -- the cache -------------------------------------------------------------------------------------


#: The flag of commands that are about the keys of one namespace.
in_namespace: Callable[..., Any] = click.option(
    "-n",
    "--namespace",
    multiple=True,
    metavar="NAME",
    help="The view of that name, or the namespace NAME inside the cache's own (given again: inside that).",
)


@contextmanager
def open_cache(
    settings: Settings, namespace: Sequence[str] = (), *, writes: bool = False
) -> Iterator[TieredCache[Any]]:
    """The cache of the configuration, or its view of ``namespace``; closed at the end. Raises `Failed` for a
    configuration that is not in order, which is told in two lines at most (`tiercache check` tells all); if
    it ``writes``, and nothing of that could outlast this process; and, at the end, if what it wrote is lost
    with a temporary directory."""
    source: Any = settings.config
    options: dict[str, Any] = {} if settings.cache is None else {"name": settings.cache}
    try:
        cache: TieredCache[Any] = TieredCache.from_config(source, **options)
    except ConfigError as error:
        raise Failed(in_two_lines(for_a_shell(str(error)))) from error
    for sharing in sharings(cache):
        sharing.stop()  # the statistics are the application's, and not of who looks in from outside
    for stack in stacks(cache):
        if stack.books is not None:
            stack.books.look_from_outside()
    with cache:
        if writes and not lasts(cache):
            raise Failed(
                "nothing is done: the cache is memory alone, which each process has of its own, and that "
                "of a command ends with it"
            )
        view = cache
        for name in namespace:
            view = view.view(name)
        yield view
    lost = [guard.name for stack in stacks(cache) for guard in stack.guards if _is_temporary(guard.tier)]
    if writes and lost:
        raise Failed(
            f"nothing of it stays in {', '.join(lost)}, whose temporary directory goes away with this"
        )


def _is_temporary(tier: Any) -> bool:
    return getattr(tier, "temporary", False) is True


def journal_of(cache: TieredCache[Any]) -> str | None:
    """The name of the tier that notes, beyond this process, which deletes a tier above it or below has not
    done; `None`: there is none, and what failed is forgotten."""
    stack = cache._stack  # noqa: SLF001 - it is of no use to those who write applications
    return None if stack.journal.depth is None else stack.guards[stack.journal.depth].name


def put_off(what: str, ill: Sequence[str], keeper: str) -> str:
    """What is said of a delete that the tiers ``ill`` have not done and the ``keeper`` has noted."""
    names = ", ".join(ill)
    return (
        f"not {what} in {names} yet; {keeper} has noted it, and it is done once {names} is well again; until "
        f"then the old value is not served"
    )


def sharings(cache: TieredCache[Any]) -> Iterator[Publisher]:
    """What shares the statistics of ``cache``, and of the chains inside it."""
    return (stack.sharing for stack in stacks(cache) if stack.sharing is not None)


def stacks(cache: TieredCache[Any]) -> Iterator[Any]:
    """The stack of ``cache``, and those of the chains inside it."""
    found: list[Any] = [cache._stack]  # noqa: SLF001 - as in `journal_of`
    for stack in found:
        yield stack
        inner = [guard.tier for guard in stack.guards if isinstance(guard.tier, ChainTier)]
        found += [tier._core.stack for tier in inner]  # noqa: SLF001 - as above


def for_a_shell(text: str) -> str:
    """``text``, about a configuration, with the flag that a shell has for what a program says otherwise."""
    return text.replace("say which by its name:", "say which by --cache NAME:")


def in_two_lines(text: str) -> str:
    """What is wrong with a configuration, told in two lines at most."""
    first, *more = text.splitlines()
    if len(more) < 2:
        return text
    return f"{first}, the first of them at {more[0].strip()}\ntiercache: `tiercache check` tells them all"
