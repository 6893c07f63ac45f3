"""Pages of how-to name what they need: what their blocks import is brought by what they say to install."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import metadata

import pytest
from doc_snippets import ROOT, blocks
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from selections import together

PAGES = [*sorted((ROOT / "docs" / "how-to").rglob("*.md")), ROOT / "docs" / "tutorial" / "index.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
#: What a line in a clone installs: extras, and packages beside them.
_INSTALL = re.compile(r'pip install (?:"\.(?:\[(?P<extras>[\w,-]+)\])?"|\.)?(?P<others>(?: ?[\w.-]+)*)')
#: What a page has in Python that takes more than the core, and the package that it takes.
TAKES = {
    r"\bDiskTier\(": "diskcache",
    r"\bRedisTier\(": "redis",
    r"\bSQLTier\(": "sqlalchemy",
    r"\bEncryptedCodec\(": "cryptography",
    r"\bfrom_(?:config|url)\(": "pydantic",
    r"\bretry=(?!False)": "tenacity",
}


def closure(*requirements: str) -> set[str]:
    """The names of all packages that come with ``requirements``."""
    found, seen, todo = set(), set(), [Requirement(one) for one in requirements]
    while todo:
        one = todo.pop()
        name = canonicalize_name(one.name)
        if (name, *sorted(one.extras)) in seen:
            continue
        seen.add((name, *sorted(one.extras)))
        if name == PROJECT["name"]:
            more = [*PROJECT["dependencies"], *(line for extra in one.extras for line in EXTRAS[extra])]
        else:
            found.add(name)
            more = _requires(name)
        asked = [{"extra": extra} for extra in ("", *one.extras)]
        todo += [
            other
            for other in map(Requirement, more)
            if other.marker is None or any(map(other.marker.evaluate, asked))
        ]
    return found


@cache
def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # one of several that would do, or of another platform
        return []


def installed(text: str) -> set[str]:
    """What the lines of a page bring together."""
    extras, others = set(), set()
    for line in _INSTALL.finditer(text):
        extras.update(filter(None, (line["extras"] or "").split(",")))
        others.update(line["others"].split())
    return closure(f"{PROJECT['name']}[{','.join(sorted(extras))}]", *others)


@cache
def _distributions() -> dict[str, list[str]]:
    return {
        module: list(map(canonicalize_name, names))
        for module, names in metadata.packages_distributions().items()
    }


def imported(page) -> Iterator[tuple[int, str]]:
    """The modules of packages that the page's Python imports, each with its line."""
    own = {block.told.removesuffix(".py") for block in blocks(page) if block.how == "file"}
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.text)):
            names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in own and top != "tiercache":
                    yield block.line, top


def lacks(page) -> list[str]:
    """What the page needs and does not name."""
    brought = installed(page.read_text())
    found = []
    for line, module in imported(page):
        names = _distributions().get(module, [])
        if names and not brought.intersection(names):
            found.append(f"line {line}: {module}")
    for block in blocks(page, "python"):
        for pattern, package in TAKES.items():
            if re.search(pattern, block.text) and package not in brought:
                found.append(f"line {block.line}: {package}, for {pattern}")
    if any(re.search(r"^\$ tiercache ", block.text, re.MULTILINE) for block in blocks(page)):
        found += [] if "click" in brought else ["click, for the command"]
    return found


@together("page", PAGES)
def test_a_page_names_what_it_needs(page):
    assert not lacks(page), page.relative_to(ROOT)


def test_what_is_lacking_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nimport redis.asyncio\n\nfrom tiercache import DiskTier\n\nDiskTier('a')\n```\n"
    )
    assert [one.partition(",")[0] for one in lacks(page)] == ["line 2: redis", "line 2: diskcache"]
    page.write_text(f'{page.read_text()}`pip install ".[disk]" redis`\n')
    assert lacks(page) == []


@pytest.mark.parametrize("line", ['pip install ".[disk]" a b', "pip install . a b", "pip install a b"])
def test_a_line_brings_what_stands_in_it(line):
    assert {"a", "b"} <= installed(line)
    assert ("diskcache" in installed(line)) == ("disk" in line)
