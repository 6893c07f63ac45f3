"""What `CONTRIBUTING.md` asks of every file, as far as a program can tell."""

from __future__ import annotations

import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("tiercache", "tests", "benchmarks")

pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="needs a checkout")

_CODES = r"[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*"
#: What a comment excepts its line from, and what follows that: a reason, or a second exception.
_EXCEPTION = re.compile(
    rf"#\s*(?:noqa(?::\s*{_CODES})?|type:\s*ignore(?:\[[^\]]*\])?|pragma:\s*no cover)(?P<rest>.*)"
)


def is_bare(comment: str) -> bool:
    """Whether it excepts its line from a rule and says nothing else."""
    excepted = False
    while found := _EXCEPTION.search(comment):
        excepted, comment = True, found["rest"]
    return excepted and not re.search(r"\w", comment)


def unreasoned(path: Path) -> Iterator[int]:
    """The lines of ``path`` with an exception to a rule, and no reason for it beside it."""
    if not any(map(is_bare, path.read_text("utf-8").splitlines())):
        return
    with tokenize.open(path) as lines:  # it may be in a text, which takes long to tell
        for token in tokenize.generate_tokens(lines.readline):
            if token.type == tokenize.COMMENT and is_bare(token.string):
                yield token.start[0]


def test_every_exception_to_a_rule_has_its_reason():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 500
    bare = [f"{path.relative_to(ROOT)}:{line}" for path in files for line in unreasoned(path)]
    assert not bare, "say why, on the same line"


@pytest.mark.parametrize(
    ("line", "bare"),
    [
        ("x = 1  # noqa: S101", True),
        ("x = 1  # noqa: S101, S102 -", True),
        ("x = 1  # type: ignore[a-b]", True),
        ("x = 1  # type: ignore[a]  # noqa: S101", True),
        ("x = 1  # pragma: no cover", True),
        ("x = 1  # noqa", True),
        ("x = 1  # noqa: S101 - it is ours", False),
        ("x = 1  # type: ignore[a]  # noqa: S101 - it is ours", False),
        ("x = 1  # type: ignore[a]  # it is ours", False),
        ('x = "# noqa: S101"', False),
        ("x = 1  # one", False),
    ],
)
def test_a_reason_is_seen(tmp_path, line, bare):
    file = tmp_path / "file.py"
    file.write_text(f"import os\n{line}\n")
    assert list(unreasoned(file)) == [2] * bare
