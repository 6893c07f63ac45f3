"""The tests that the page on security names as proofs exist, and each threat names one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from doc_snippets import ROOT
from selections import together

PAGE = (ROOT / "docs" / "explanation" / "security.md").read_text()
PROOF = re.compile(r"`(test_\w+\.py)::(\w+)`")
PROOFS = sorted(set(PROOF.findall(PAGE)))


def proofs_in(file: str) -> set[str]:
    """The tests of the one file of that name, as pytest would find them."""
    (path,) = (ROOT / "tests").rglob(file)
    tree = ast.parse(Path(path).read_text())
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def threats() -> list[str]:
    """The rows of the tables of threats: those between a heading of their columns and the next blank line."""
    tables = re.findall(r"^\| they \|.*\n\|[- |]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    return [row for table in tables for row in table.splitlines()]


@together(("file", "test"), PROOFS)
def test_a_proof_exists(file, test):
    assert test in proofs_in(file)


def test_every_threat_has_its_proof():
    rows = threats()
    assert len(rows) >= 20
    for row in rows:
        they, stopped, proofs = (cell.strip() for cell in row.strip("|").split(" | "))
        assert they
        assert stopped
        assert PROOF.search(proofs), f"no test is named: {they}"
        assert not PROOF.sub("", proofs).strip(", "), f"something that is no test: {proofs}"
