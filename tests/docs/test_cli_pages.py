"""The pages of the commands: one for each, with all its flags, and examples whose output is what is shown."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from doc_snippets import ROOT, blocks
from shell import run

from tiercache.cli._app import COMMANDS, command_line

PAGES = ROOT / "docs" / "reference" / "cli"
#: Those whose examples have their output beside them, in a folder with the configuration below.
SHOWN = ["init", "check", "get", "set", "delete", "keys", "inspect", "clear", "purge", "roi"]
CONFIG = """
codec = "json"
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
directory = "cache"
deadline = "20s"
[[tiers]]
type = "sql"
url = "sqlite:///shared.db"
deadline = "20s"
"""


def test_each_command_has_a_page_and_the_overview_names_it():
    overview = (PAGES / "README.md").read_text()
    for name in COMMANDS:
        assert (PAGES / f"{name}.md").is_file(), name
        assert f"[`{name}`]({name}.md)" in overview
    assert {page.stem for page in PAGES.glob("*.md")} == {*COMMANDS, "README"}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_tells_all_flags(name):
    text = (PAGES / f"{name}.md").read_text()
    found = command_line.get_command(click.Context(command_line), name)
    for one in found.commands.values() if isinstance(found, click.Group) else [found]:
        for option in one.params:
            if isinstance(option, click.Option) and option.expose_value:
                assert any(f"`{flag}" in text for flag in option.opts), f"{name}: {option.opts}"


def plain(text):
    """``text`` without what differs from run to run: numbers, sizes, times, and the width of columns."""
    text = re.sub(r"^.* has .*, and max_bytes .*\n", "", text, flags=re.MULTILINE)  # a small disk
    text = re.sub(r"\d[\d,.]* ?([KMGT]iB|B)\b", "SIZE", text)
    text = re.sub(r"(?<![\w.])(\d+[dhms] ?)+(?= |$)", "TIME ", text, flags=re.MULTILINE)
    text = re.sub(r"/\S+/cache\b", "…/cache", text)
    text = re.sub(r"\d+(\.\d+)*", "0", text)
    return [line.split() for line in text.splitlines()]


def shown_by(line):
    """What a shell would show for ``line``: of one command, with what is piped into it, and what comes of a
    failure."""
    line, _, otherwise = line.partition(" || echo ")
    piped, _, command = line.rpartition(" | ")
    stdin = shlex.split(piped)[1] if piped else ""
    done = run(*shlex.split(command)[1:], stdin=stdin.encode())
    text = done.out + done.err
    if text and not text.endswith("\n"):
        text += "\n"
    return text + (shlex.split(otherwise)[0] + "\n" if otherwise and done.code else "")


@pytest.mark.parametrize("name", SHOWN)
def test_examples_show_what_is_on_the_page(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TIERCACHE_CONFIG", raising=False)
    if name != "init":
        (tmp_path / "tiercache.toml").write_text(CONFIG)
    [block] = blocks(PAGES / f"{name}.md", "console")
    examples = re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]
    assert examples
    exact = name not in ("init", "check", "inspect")
    for example in examples:
        line, _, expected = example.partition("\n")
        shown = shown_by(line)
        assert shown == expected if exact else plain(shown) == plain(expected), line
