"""The tests that the page on testing shows pass, as a reader runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from doc_snippets import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "testing.md"


def test_the_tests_of_the_page_on_testing_pass(tmp_path):
    text = "\n".join(block.text for block in blocks(PAGE, "python"))
    (tmp_path / "test_page.py").write_text(text)
    written = len(re.findall(r"^def test_", text, re.MULTILINE))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "2", "-W", "error"],
        cwd=tmp_path,
        # As a reader has it: without the plug-ins that are here for other tests.
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= written
