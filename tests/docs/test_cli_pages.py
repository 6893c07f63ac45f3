"""The pages of the commands: one for each, with all its flags. Their examples run with those of all pages."""

from __future__ import annotations

import click
import pytest
from doc_snippets import ROOT

from tiercache.cli._app import COMMANDS, command_line

PAGES = ROOT / "docs" / "reference" / "cli"


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
