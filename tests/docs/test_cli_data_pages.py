"""The pages of the commands that move data name each of their flags, and no other."""

from __future__ import annotations

import re

import click
import pytest
from doc_snippets import ROOT

from tiercache.cli._app import command_line
from tiercache.cli._context import shared

NAMES = ("bench", "export", "import", "migrate", "warm")


def _flags(command):
    everywhere = {flag for option in shared() for flag in option.opts}
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    own = {flag for option in command.params if isinstance(option, click.Option) for flag in option.opts}
    return own.union(*map(_flags, inner)) - everywhere


@pytest.mark.parametrize("name", NAMES)
def test_a_page_names_each_flag_of_its_command(name):
    page = (ROOT / "docs" / "reference" / "cli" / f"{name}.md").read_text()
    rows = re.findall(r"^\| (`-[^|]*) \|", page, re.MULTILINE)
    named = {flag for row in rows for flag in re.findall(r"`(--?[a-z-]+)", row)}
    assert named == _flags(command_line.get_command(click.Context(command_line), name))


def test_the_page_of_migrate_names_each_of_its_commands():
    page = (ROOT / "docs" / "reference" / "cli" / "migrate.md").read_text()
    group = command_line.get_command(click.Context(command_line), "migrate")
    assert set(re.findall(r"^\| `(langchain-[a-z-]+) ", page, re.MULTILINE)) == set(group.commands)
