"""Makes Markdown of our docstrings, for the pages of the reference: an extension of griffe, which reads them.

They are written for readers of the code: what belongs to a name stands indented below it, a paragraph that
ends in ``::`` has something literal behind it, and `Names` of ours stand in single backticks.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import griffe

PACKAGE = Path(__file__).parent.parent.parent / "tiercache"
#: A line of names, and what is indented below it.
_DEFINED = re.compile(r"^(``.*``)\n((?: {4}.*(?:\n|\Z))+)", re.MULTILINE)
#: A paragraph that ends in ``::``, or is nothing else, and what is indented below it.
_LITERAL = re.compile(r"^(.*)::\n\n((?:(?: {4}.*)?(?:\n|\Z))+)", re.MULTILINE)
#: What begins a paragraph about an error.
_LEAD = re.compile(r"^(Cause|Cure): ", re.MULTILINE)
_NAME = re.compile(r"(?<!`)`([A-Z]\w+)`(?!`)")


def classes() -> dict[str, str]:
    """The classes of the package by their names alone, where just one has a name: the path of each."""
    found: dict[str, list[str]] = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = [
            part for part in file.relative_to(PACKAGE.parent).with_suffix("").parts if part != "__init__"
        ]
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(".".join([*parts, node.name]))
    return {name: paths[0] for name, paths in found.items() if len(paths) == 1}


def markdown(text: str, known: dict[str, str]) -> str:
    """``text`` as Markdown, with links to those of ``known`` that are on some page."""
    kept: list[str] = []

    def literal(match: re.Match[str]) -> str:
        block = "\n".join(line.removeprefix("    ") for line in match[2].rstrip().splitlines())
        kept.append(f"{match[1] and match[1] + ':'}\n\n```text\n{block}\n```\n\n")
        return f"\0{len(kept) - 1}\0"

    def defined(match: re.Match[str]) -> str:
        return f"\n{match[1]}\n:{match[2][1:]}\n"

    def link(match: re.Match[str]) -> str:
        if match[1] not in known:
            return match[0]
        # "optional": a name that is on no page stays as it is.
        return f'<autoref optional identifier="{known[match[1]]}"><code>{match[1]}</code></autoref>'

    text = _LITERAL.sub(literal, text)
    text = _NAME.sub(link, _DEFINED.sub(defined, text))
    text = _LEAD.sub(r"**\1:** ", text)
    return re.sub("\0(\\d+)\0", lambda match: kept[int(match[1])], text).strip()


def above(obj: griffe.Object) -> str:
    """The comment right above an attribute, where it begins with ``#:``, as is the way of the code."""
    lines: list[str] = []
    source = obj.lines_collection[obj.filepath] if isinstance(obj.filepath, Path) else []
    for line in reversed(source[: (obj.lineno or 1) - 1]):
        if not line.lstrip().startswith("#"):
            return ""
        lines.insert(0, line.lstrip().removeprefix("#:").removeprefix("#").strip())
        if line.lstrip().startswith("#:"):
            return "\n".join(lines)
    return ""


class Docstrings(griffe.Extension):
    """Does that to each docstring that is read."""

    def __init__(self) -> None:
        self._known = classes()

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """griffe's hook for each module, class, function and attribute."""
        if obj.docstring is None and obj.is_attribute and (told := above(obj)):
            obj.docstring = griffe.Docstring(told, parent=obj)
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value, self._known)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """griffe's hook for a class that has all its members: takes out what says nothing to readers."""
        for name, member in list(cls.members.items()):
            own = name.startswith("__") and name != "__init__"
            if own or (member.is_attribute and not member.is_alias and _says_nothing(member)):
                cls.del_member(name)


def _says_nothing(attribute: Any) -> bool:
    """Whether it is there for type checkers alone, such as the methods of a tier that passes all calls on."""
    return attribute.docstring is None and attribute.value is None and str(attribute.annotation) == "Any"
