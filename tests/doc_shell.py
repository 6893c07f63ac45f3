"""Runs what the documentation shows of a shell, in the current folder, and compares what stands below it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import shell
from doc_snippets import ROOT, Block, blocks

__all__ = ["SHELL", "prepare", "run_block"]

#: The languages of blocks with commands: those of a console stand behind prompts, and have output below them.
SHELL = ("console", "sh", "bash", "shell")
#: A line of the `tiercache` command alone, which runs in this process: what is piped into it, and what
#: follows a failure.
_QUICK = re.compile(
    r"(?:printf (?P<given>'[^']*') \| )?(?P<command>tiercache [^|<>;&]*?)(?: \|\| echo (?P<otherwise>\S+))?"
)
#: What a command says that fails: where a page shows that, it is meant to.
_COMPLAINT = "tiercache: "


def prepare(page: Path) -> None:
    """Make the current folder one where the page's blocks can run: with the commands that readers have, and
    with the files of the page over it, unless it is about making one."""
    folder = Path("bin")
    folder.mkdir()
    for name, command in (("tiercache", "-m tiercache"), ("python", "")):
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {command} "$@"\n')
        script.chmod(0o755)
    above = page.with_name("README.md")
    if above.exists() and "$ tiercache init" not in page.read_text():
        for block in blocks(above):
            if block.how == "file":
                run_block(block)


def run_block(block: Block) -> None:
    """Write the block's file, or run its commands. ``AssertionError``: they show something else."""
    if block.how == "file":
        Path(block.told).write_text(block.text)
    elif block.language in SHELL and block.reason is None:
        for line, expected in _commands(block):
            code, shown = _run(line)
            where = f"{block.page.name}, line {block.line}: {line}"
            if block.how == "output is an example":
                assert code == 0, f"{where}\n{shown}"
            elif block.how == "output varies":
                assert _plain(shown) == _plain(expected), f"{where}\n{shown}"
            elif expected is not None:
                assert shown == expected, where
            if not (expected or "").startswith(_COMPLAINT):
                assert code == 0, f"{where}\n{shown}"


def _commands(block: Block) -> Iterator[tuple[str, str | None]]:
    """Each command, and what is shown below it: ``None`` where the block shows no output at all."""
    if block.language != "console":
        yield block.text, None
        return
    examples = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    cut = [example.replace("\\\n", " ").partition("\n") for example in examples]
    shows = any(expected for _, _, expected in cut)
    for line, _, expected in cut:
        yield line, expected if shows else None


def _run(line: str) -> tuple[int, str]:
    """The exit code, and what a terminal would show."""
    quick = _QUICK.fullmatch(line)
    if quick is None:
        environment = {**os.environ, "PATH": f"{Path('bin').resolve()}{os.pathsep}{os.environ['PATH']}"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout
    given = shlex.split(quick["given"])[0] if quick["given"] else ""
    said = shell.run(*shlex.split(quick["command"], comments=True)[1:], stdin=given.encode())
    code, shown = said.code, said.out + said.err
    if shown and not shown.endswith("\n"):
        shown += "\n"
    if code and quick["otherwise"]:
        code, shown = 0, f"{shown}{shlex.split(quick['otherwise'])[0]}\n"
    return code, shown


def _plain(text: str | None) -> list[list[str]]:
    """``text`` without what differs from run to run: numbers, sizes, times, and the width of columns."""
    text = re.sub(r"^.* has .*, and max_bytes .*\n", "", text or "", flags=re.MULTILINE)  # a small disk
    text = re.sub(r"\d[\d,.]* ?([KMGT]iB|B)\b", "SIZE", text)
    text = re.sub(r"(?<![\w.])(\d+[dhms] ?)+(?= |$)", "TIME ", text, flags=re.MULTILINE)
    text = re.sub(r"/\S+/cache\b", "…/cache", text)
    text = re.sub(r"\d+(\.\d+)*", "0", text)
    return [line.split() for line in text.splitlines()]
