"""What pictures of terminals show is what the commands print, but for the numbers."""

from __future__ import annotations

import re

import pytest
from doc_snippets import PAGES
from selections import usually
from website.terminals import IMAGES, TERMINALS, record, said


def lines(picture):
    # What the demo finds for its questions differs between releases of Python, whose documentation it is.
    told = said(picture)
    return told[: next((number for number, line in enumerate(told) if line[0] == "How"), None)]


@pytest.mark.parametrize("name", usually({"report"}, TERMINALS))  # the demo has tests of its own
def test_a_terminal_shows_what_is_printed(name):
    shown = (IMAGES / f"{name}.svg").read_text()
    assert len(lines(shown)) >= 5
    assert lines(shown) == lines(record(name))


def test_pictures_fetch_nothing_and_each_is_on_a_page():
    pages = "".join(page.read_text() for page in PAGES)
    for picture in IMAGES.glob("*.svg"):
        assert not re.search(r"@import|url\(['\"]?http|href=", picture.read_text()), picture
        assert f"images/{picture.name})" in pages, picture
