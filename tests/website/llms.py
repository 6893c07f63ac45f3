"""`llms.txt`: the pages of the site for programs that read, in the order of its navigation (llmstxt.org)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

__all__ = ["everything", "index", "navigation", "pages"]

Section = tuple[str, ...]
#: What brings something of the code into a page, with its options.
_DIRECTIVE = re.compile(r"^::: ([\w.]+)\n(?:(?: {4}.*)?\n)*", re.MULTILINE)


def navigation(project: Path) -> Iterator[tuple[Section, str]]:
    """The pages, in order: the sections that each lies in, and its path."""
    nav = tomllib.loads((project / "zensical.toml").read_text())["project"]["nav"]
    yield from _walk(nav, ())


def _walk(items: list[Any], section: Section) -> Iterator[tuple[Section, str]]:
    for item in items:
        for name, inner in item.items() if isinstance(item, dict) else [("", item)]:
            if isinstance(inner, str):
                yield section, inner
            else:
                yield from _walk(inner, (*section, name))


def pages(project: Path) -> list[str]:
    """Their paths, in `docs/`."""
    return [path for _, path in navigation(project)]


def index(project: Path) -> str:
    """What is to be in `docs/llms.txt`: a line for each page, with its title and its first sentence."""
    config = tomllib.loads((project / "zensical.toml").read_text())["project"]
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}"]
    last = ""
    for section, path in navigation(project):
        here = section[0] if section else "Home"
        if here != last:
            lines += ["", f"## {here}", ""]
            last = here
        title, about = _told(project / "docs" / path)
        lines.append(f"- [{title}]({path})" + (f": {about}" if about else ""))
    return "\n".join(lines) + "\n"


def everything(project: Path) -> str:
    """All pages, one behind the other, but for the figures of the report; with what the code says of
    itself in the place of the directives that bring it into a page."""
    package = griffe.load("tiercache", search_paths=[project])
    texts = (
        (project / "docs" / path).read_text()
        for section, path in navigation(project)
        if section[:1] != ("Benchmarks",)
    )
    return "\n".join(
        _DIRECTIVE.sub(
            lambda match: "\n".join(_described(match[1], package[match[1].partition(".")[2]])), text
        )
        for text in texts
    )


def _described(path: str, found: griffe.Object | griffe.Alias) -> Iterator[str]:
    """What is at ``path`` in the package, and what is public inside it."""
    found = found.final_target if isinstance(found, griffe.Alias) else found
    about = f"{path}{found.signature(return_type=True)[len(found.name) :]}" if found.is_function else path
    yield f"## `{about}`\n"
    if found.docstring is not None:
        yield found.docstring.value + "\n"
    for name, inner in {**found.inherited_members, **found.members}.items():
        shown = name in (found.exports or ()) if found.is_module else not name.startswith("_")
        if shown and not (found.is_class and inner.is_attribute and inner.docstring is None):
            yield from _described(f"{path}.{name}", inner)


def _told(page: Path) -> tuple[str, str]:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    title = _plain(text.split("\n", 1)[0].removeprefix("# "))
    paragraphs = [part for part in text.split("\n\n")[1:] if re.match(r"[\w`*\[\"]", part.strip())]
    about = _plain(" ".join(paragraphs[0].split())) if paragraphs else ""
    return title, re.split(r"(?<=[.:])\s", about, maxsplit=1)[0].rstrip(":")


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]*)\](?:\([^)]*\))?", r"\1", text)
