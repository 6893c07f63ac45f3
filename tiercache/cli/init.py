"""`tiercache init`: writes a configuration, commented, from flags or from answers to a few questions."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from tiercache._paths import only_looking
from tiercache.chain import TieredCache
from tiercache.cli._context import ANY_PATH, Failed, Settings, command
from tiercache.cli._files import write_whole
from tiercache.cli._flags import FlagProblems, flag_of, places_of
from tiercache.cli._output import note, printable, say
from tiercache.cli._template import Choices, rendered

__all__ = ["init"]

_FILE = "tiercache.toml"
_REFUSED = "nothing is written"


@command()
@click.argument("file", required=False, type=ANY_PATH)
@click.option("--namespace", metavar="NAME", help="Keeps its keys apart from those of other caches.")
@click.option("--ttl", metavar="TIME", help='How long an entry lives: 12h, 30d, or "none": until evicted.')
@click.option("--codec", metavar="NAME", help="What values are: bytes, json, text, vector-f4, zstd-json, ...")
@click.option("--memory", metavar="SIZE", help='Room in the memory of each process (256MiB), or "none".')
@click.option("--disk", metavar="DIR", help='A directory of this machine, or "none".')
@click.option("--disk-size", metavar="SIZE", help="Room in that directory (10GiB).")
@click.option("--shared", metavar="URL", help='A Redis server or a database that machines share, or "none".')
@click.option("-y", "--yes", is_flag=True, help="Ask nothing: what no flag says is as proposed.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.pass_obj
def init(settings: Settings, /, file: str | None, yes: bool, force: bool, **given: str | None) -> int:
    """Write a commented configuration.

    To FILE, or else tiercache.toml here. On a terminal it asks what no flag says. Nothing is written unless
    the answers make a configuration that is in order.
    """
    path = Path(file or settings.config or _FILE).expanduser()
    if path.suffix != ".toml":
        raise click.UsageError(f"{path.name!r} is not the name of a TOML file; give one that ends in .toml")
    if path.exists() and not force:
        raise Failed(f"{path} is there already; --force replaces it")
    answer = _proposed
    if sys.stdin.isatty() and not yes:
        _check_said(given, path)  # before anything is asked: the answers would be lost
        answer = partial(_asked, path)
    choices = _choices(given, path, answer)
    text = rendered(choices, path.name)
    _check(text, path, choices, given)
    write_whole(path, text, private=choices.holds_a_password)
    say(f"{path} is written; `tiercache check --connect` tries it")
    if choices.holds_a_password:
        note(
            "it holds a password, and only you can read it; a variable, as in ${CACHE_URL}, would keep it out"
        )
    return 0


#: What flags and answers said so far, by the names of the flags; ``None``: nothing yet.
Said = dict[str, str | None]
#: Gives what to take for a name in `Said`, after a question and a proposal.
Answer = Callable[[Said, str, str, str], str]


def _proposed(_said: Said, _name: str, _question: str, proposal: str) -> str:
    return proposal


def _asked(path: Path, said: Said, name: str, question: str, proposal: str) -> str:
    """The answer of who sits there, asked again until it is one."""
    while True:
        answer: str = click.prompt(question, default=proposal, err=True).strip()
        try:
            _check_said({**said, name: answer}, path)
        except click.ClickException as error:
            note(error.message.removeprefix(f"{_REFUSED}: ").removeprefix(f"{flag_of(name)}: "))
        else:
            return answer


def _check_said(said: Said, path: Path) -> None:
    """Raise what click has for flags if what was ``said`` is not in order, whatever comes."""
    # In the place of what is yet to come stands what is in order wherever it is.
    unsaid = {"namespace": "", "ttl": "none", "codec": "bytes", "memory": "none", "disk": "none"}
    unsaid |= {"disk_size": "1GiB", "shared": "none"}
    if said["disk_size"] is not None:
        unsaid["disk"] = f".{os.urandom(8).hex()}"
    known = {name: unsaid[name] if text is None else text for name, text in said.items()}
    tiers = ("memory", "disk", "shared")
    if any(said[name] is None for name in tiers) and all(known[name] == "none" for name in tiers):
        known["memory"] = "1MiB"  # one of them may be there in the end
    choices = _made(known)
    _check(rendered(choices, path.name), path, choices, said)


def _choices(given: Said, path: Path, answer: Answer) -> Choices:
    """What the flags say, and where they do not, the ``answer`` to a question with a proposal."""
    said = dict(given)

    def choice(name: str, question: str, proposal: str) -> str:
        text = said[name]
        if text is None:
            text = said[name] = answer(said, name, question, proposal)
        return text

    folder = Path(os.path.abspath(path)).parent.name  # noqa: PTH100 - as the folder is written, links and all
    folder = folder if folder.isprintable() and folder else "cache"
    namespace = choice("namespace", "Namespace, which keeps keys apart from those of other caches", folder)
    choice("ttl", 'How long an entry lives ("none": until evicted)', "30d")
    choice("codec", "What values are: bytes, json, text, vector-f4, zstd-json, ...", "bytes")
    choice("memory", 'Room in the memory of each process ("none": do without)', "256MiB")
    within = folder if namespace in ("", "none") else namespace
    disk = choice("disk", 'Directory of this machine ("none": do without)', f"~/.cache/{within}")
    if disk != "none":
        choice("disk_size", "Room in that directory", "10GiB")
    choice("shared", 'URL of a Redis server or a database that machines share ("none")', "none")
    return _made({name: text if text is not None else "none" for name, text in said.items()})


def _made(said: dict[str, str]) -> Choices:
    for name, text in said.items():
        if not text.isprintable():  # nobody could read it in the file, and TOML cannot hold all of it
            raise click.UsageError(f"{flag_of(name)}: {printable(text)} has characters that cannot be shown")
    chosen = {name: None if text == "none" else text for name, text in said.items()}
    return Choices(
        namespace=chosen["namespace"] or "",
        ttl=chosen["ttl"],
        codec=chosen["codec"] or "bytes",
        memory=chosen["memory"],
        disk=chosen["disk"],
        disk_size=chosen["disk_size"] or "10GiB",
        shared=chosen["shared"],
        kind=_kind(chosen["shared"]),
    )


def _kind(url: str | None) -> str:
    """The type of the tier that ``url`` is for."""
    from tiercache.config._urls import LOCAL, tables
    from tiercache.config._variables import VariableError, expand

    if url is None:
        return ""
    problems = FlagProblems(_REFUSED, {"tiers[0]": "shared"})
    kind = ""
    try:
        kind = str(tables([expand(url)], problems, shared=True)[0].get("type", ""))
    except VariableError as error:
        problems.add("tiers[0]", str(error))
    if kind == "null":
        problems.add("tiers[0]", 'a null tier holds nothing; "none" does without')
    elif kind in LOCAL:
        problems.add("tiers[0]", f"no machines share what is in {kind}; --{kind} is for that")
    if problems.any:
        raise click.UsageError(_told(problems))
    return kind


def _told(problems: FlagProblems) -> str:
    """As click tells what is wrong with a flag."""
    return str(problems.error()).removeprefix(f"{_REFUSED}: ")


def _check(text: str, path: Path, choices: Choices, said: Said) -> None:
    """Raise `Failed` for a configuration that is not in order, its tiers included; what click has for flags
    if it is one of ``said`` that is wrong. Makes no directory."""
    from tiercache.config._build import Builder  # it needs pydantic
    from tiercache.config._check import check_root

    problems = FlagProblems(_REFUSED, places_of(choices))
    plan, _ = check_root(tomllib.loads(text), path.parent, problems, "")
    builder = Builder(TieredCache, problems)
    with only_looking():
        builder.chain(plan)
        builder.close()
    if not problems.any:
        return
    if any(said[name] is not None for name in problems.names):
        raise click.UsageError(_told(problems))
    raise Failed(str(problems.error()))
