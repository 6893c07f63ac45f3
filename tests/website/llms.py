"""`llms.txt`: the pages of the site for programs that read, in the order of its navigation (llmstxt.org)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["everything", "index", "navigation", "pages"]

Section = tuple[str, ...]


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
    """All pages, one behind the other, but for the figures of the report."""
    texts = [
        (project / "docs" / path).read_text()
        for section, path in navigation(project)
        if section[:1] != ("Benchmarks",)
    ]
    return "\n".join(texts)


def _told(page: Path) -> tuple[str, str]:
    text = re.sub(r"<!--.*?-->", "", page.read_text(), flags=re.DOTALL)
    title = _plain(text.split("\n", 1)[0].removeprefix("# "))
    paragraphs = [part for part in text.split("\n\n")[1:] if re.match(r"[\w`*\[\"]", part.strip())]
    about = _plain(" ".join(paragraphs[0].split())) if paragraphs else ""
    return title, re.split(r"(?<=[.:])\s", about, maxsplit=1)[0].rstrip(":")


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]*)\](?:\([^)]*\))?", r"\1", text)
