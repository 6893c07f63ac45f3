"""Builds the site with Zensical, strictly, and puts beside its pages what programs read.

Zensical fails at dead links and anchors among the pages; what it prints besides, such as a name that it does
not find in the code, is a failure here too.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from website import llms
from website.links import dead

__all__ = ["BrokenSite", "build"]

ROOT = Path(__file__).parents[2]
#: What it says when all is well.
_WELL = re.compile(r"Build started|No issues found|Build finished in .*|")


class BrokenSite(Exception):
    """The site was not built, or something in it leads nowhere; the message says what."""


def build(project: Path = ROOT) -> Path:
    """Build the site of the checkout in ``project``; where it is. Raises `BrokenSite`."""
    # Afresh: of a page that it has in its cache it says nothing.
    command = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    told = re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    if done.returncode or not all(_WELL.fullmatch(line.strip()) for line in told.splitlines()):
        raise BrokenSite(told)
    site = project / "site"
    # The pages as they were written, for programs that read; at the places that llms.txt names.
    for page in llms.pages(project):
        (site / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(project / "docs" / page, site / page)
    (site / "llms-full.txt").write_text(llms.everything(project))
    if found := dead(site):
        raise BrokenSite("\n".join(found))
    return site
