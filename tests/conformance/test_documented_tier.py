"""The tier of docs/how-to/writing-a-tier.md passes the suite, as the page has it."""

from __future__ import annotations

import os
import tempfile

from doc_snippets import ROOT, blocks, run

PAGE = ROOT / "docs" / "how-to" / "writing-a-tier.md"

# Not a fixture: pytest has to find the page's test class when it collects.
with tempfile.TemporaryDirectory() as _folder:
    _before = os.getcwd()  # noqa: PTH109 - to go back to, not to look at
    os.chdir(_folder)
    try:
        with run(PAGE) as _page:
            TestFolderTier = _page.TestFolderTier
    finally:
        os.chdir(_before)


def test_it_has_about_thirty_lines():
    code = [line for line in blocks(PAGE, "python")[0].text.splitlines() if line.strip()]
    assert len(code) <= 35
