"""The blocks of the documentation's pages, and how to run them.

A comment right before a block says how: ``<!-- no-run: WHY -->``, it is not run; ``<!-- file: NAME -->``, it
is that file in the folder where the page's commands run; and of commands with output below them,
``<!-- output varies: WHY -->``, its numbers differ from run to run; ``<!-- output is an example: WHY -->``,
all of it does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from registries import registering

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<how>no-run|file|output varies|output is an example):(?P<told>.*?)-->\n+)?"
    r"^(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is that of its first line of text; ``how`` it is to be run, and what else is
    ``told`` of that, say what the comment before it does."""

    page: Path
    line: int
    language: str
    text: str
    how: str
    told: str

    @property
    def reason(self) -> str | None:
        """Why it is not run."""
        return self.told if self.how == "no-run" else None


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of ``page`` in one of ``languages``, or in any, in order."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["text"],
            match["how"] or "",
            (match["told"] or "").strip(),
        )
        for match in _BLOCK.finditer(text)
        if not languages or match["language"] in languages
    ]


@contextmanager
def run(page: Path, other: Callable[[Block], object] = lambda block: None) -> Iterator[ModuleType]:
    """Run the page's Python blocks in one module, which is there as long as the context is. ``other`` is
    called with each other block, files among them, in between."""
    module = ModuleType(f"page_{page.stem}".replace("-", "_"))
    sys.modules[module.__name__] = module
    try:
        with registering():
            for block in blocks(page):
                if block.language != "python" or block.how == "file":
                    other(block)
                elif block.reason is None:
                    # Line numbers of a traceback are those of the page.
                    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
                    exec(code, module.__dict__)  # noqa: S102 - the project's own documentation
            yield module
    finally:
        del sys.modules[module.__name__]
