"""What a built site links to, and whether that is there: pages, files, anchors. Of other hosts nothing is
fetched, and a page that would load something from one is an error."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["dead"]


class _Page(HTMLParser):
    """Its anchors, what it links to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        for name in ("id", "name"):
            if tag != "meta" and (anchor := found.get(name)):
                self.anchors.add(anchor)
        if (href := found.get("href")) is not None:
            (self.links if tag == "a" or found.get("rel") == "canonical" else self.loads).append(href)
        if src := found.get("src"):
            self.loads.append(src)


def dead(site: Path) -> list[str]:
    """What leads nowhere, a line each: the page, and the link."""
    pages = {file: _Page(file.read_text()) for file in sorted(site.rglob("*.html"))}
    found = []
    for file, page in pages.items():
        where = file.relative_to(site)
        found += [f"{where} loads {url}" for url in page.loads if urlsplit(url).netloc]
        for url in [*page.links, *page.loads]:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            # The page for what is not found is shown at any address, so its links begin at the top.
            target = (
                site / unquote(parts.path).lstrip("/")
                if parts.path.startswith("/")
                else file.parent / unquote(parts.path)
            )
            target = (file if not parts.path else target).resolve()
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{where} links to {url}, which is not there")
            elif parts.fragment and target in pages and not _has(pages[target], parts.fragment):
                found.append(f"{where} links to {url}, and there is no such place on that page")
    return found


def _has(page: _Page, fragment: str) -> bool:
    return unquote(fragment) in page.anchors or fragment.startswith("__")  # the theme's own
