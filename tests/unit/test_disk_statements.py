"""The disk tier's statements, as each Python that we support takes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tiercache.tiers import disk


def strings(file: Path) -> Iterator[str]:
    """Each string of a module, pieces of f-strings too, but its docstrings, which stand alone."""
    tree = ast.parse(file.read_text())
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.value


def test_no_parameter_has_a_number():
    # Python 3.12 takes them for names until 3.12.4, and warns at each call; the other releases say nothing.
    found = [text for file in Path(disk.__file__).parent.glob("*.py") for text in strings(file)]
    assert any("VALUES (?" in text for text in found)
    assert [text for text in found if re.search(r"\?\d", text)] == []
