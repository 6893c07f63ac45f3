"""The guides' tests pass, and what their commands are said to print is what these print."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys

from doc_snippets import ROOT, blocks
from doc_snippets import run as run_page
from shell import run as run_command

PAGES = ROOT / "docs" / "how-to"


def test_the_tests_of_the_page_on_testing_pass(tmp_path):
    text = "\n".join(block.text for block in blocks(PAGES / "testing.md", "python"))
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


def plain(text):
    """``text`` without what differs from run to run: times, other numbers, and the width of columns."""
    text = re.sub(r"\d[\d.,]* (ns|µs|ms|s|min|h)\b", "…", text)
    return re.sub(r"\d[\d.,:-]*", "0", text).split()


def test_the_commands_of_the_page_on_cost_print_what_it_shows(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = PAGES / "cost-and-savings.md"
    with run_page(page):
        pass
    commands = [block.text.removeprefix("$ ").partition("\n") for block in blocks(page, "console")]
    assert len(commands) == 5
    for line, _, expected in commands:
        shown = run_command(*shlex.split(line)[1:]).out
        if "tiercache.toml" in line:  # what was measured here
            assert plain(shown) == plain(expected), line
        else:
            assert shown == expected, line
    assert "<svg" in (tmp_path / "report.html").read_text()
