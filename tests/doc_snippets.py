"""The blocks of the documentation's pages, and how to run them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from registries import registering

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

_BLOCK = re.compile(
    r"(?:^<!-- no-run:(?P<reason>.*?)-->\n+)?"
    r"^(?P<fence>```+)(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``line`` is that of its first line of text; ``reason`` says why it is not run."""

    page: Path
    line: int
    language: str
    text: str
    reason: str | None


def blocks(page: Path, *languages: str) -> list[Block]:
    """The blocks of ``page`` in one of ``languages``, in order."""
    text = page.read_text()
    return [
        Block(
            page,
            text.count("\n", 0, match.start("text")) + 1,
            match["language"],
            match["text"],
            match["reason"],
        )
        for match in _BLOCK.finditer(text)
        if match["language"] in languages
    ]


@contextmanager
def run(page: Path) -> Iterator[ModuleType]:
    """Run the page's Python blocks in one module, which is there as long as the context is."""
    module = ModuleType(f"page_{page.stem}".replace("-", "_"))
    sys.modules[module.__name__] = module
    try:
        with registering():
            for block in blocks(page, "python"):
                if block.reason is None:
                    # Line numbers of a traceback are those of the page.
                    code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
                    exec(code, module.__dict__)  # noqa: S102 - the project's own documentation
            yield module
    finally:
        del sys.modules[module.__name__]
