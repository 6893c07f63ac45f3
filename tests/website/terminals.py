"""What commands show on a terminal, as SVG: for pages where a reader would rather look."""

from __future__ import annotations

import html
import io
import os
import re
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import shell
from rich.console import Console
from rich.text import Text

from tiercache import TieredCache

__all__ = ["IMAGES", "TERMINALS", "record", "said"]

IMAGES = Path(__file__).parents[2] / "docs" / "images"
#: rich's own form fetches a font from elsewhere; the widths of its letters are told for any font.
_FORM = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_NUMBER = re.compile(r"\d[\d,.]*( ([nµm]?s|min|[KM]iB|B)\b)?")
_CONFIG = """
namespace = "shop"
codec = "json"
model = "a-model"
prices = "prices.toml"
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
path = "cache"
[budget]
per_day = 5.0
"""
_PRICES = """
version = 1
currency = "USD"
date = 2026-07-01
source = "an example"
[models.a-model]
input = 3
output = 15
"""


def _demo(command: str, columns: int) -> str:
    """What is there when its bars have ended."""
    return _shown(command, columns).rpartition("\x1b[?25h")[2]


def _report(command: str, columns: int) -> str:
    """That of a small cache, after it was open twice."""
    Path("tiercache.toml").write_text(_CONFIG)
    Path("prices.toml").write_text(_PRICES)
    for _time in range(2):
        with TieredCache.from_config("tiercache.toml") as cache:
            for number in range(200):
                cache.get_or_load(f"question {number % 40}", _answered)
    return _shown(command, columns)


def _answered(key: str) -> dict[str, object]:
    time.sleep(0.01)  # a model takes longer, and a picture need not
    return {"text": key.upper(), "usage": {"input_tokens": 900, "output_tokens": 250}}


#: A name for each picture, what is typed, how wide the terminal is, and what it shows then.
TERMINALS: dict[str, tuple[str, int, Callable[[str, int], str]]] = {
    "demo": ("tiercache demo --limit 40", 84, _demo),
    "report": ("tiercache report", 116, _report),
}


def _shown(command: str, columns: int) -> str:
    code, text = shell.in_a_terminal(*shlex.split(command)[1:], COLUMNS=str(columns))
    assert code == 0, text
    return text


@contextmanager
def _in_an_empty_folder() -> Iterator[None]:
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(before)


def record(name: str) -> str:
    """The picture of a terminal in which the command of ``name`` was typed just now."""
    typed, columns, run = TERMINALS[name]
    with _in_an_empty_folder():
        shown = run(typed, columns)
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    console.print(f"[bold]$ {typed}[/bold]", highlight=False)
    for line in shown.replace("\r", "").strip("\n").split("\n"):
        console.print(Text.from_ansi(line.rstrip()), highlight=False)
    return console.export_svg(title="", code_format=_FORM, unique_id=name)


def said(picture: str) -> list[list[str]]:
    """The words of each line of a picture, with every number, and the unit that it has, as 0."""
    lines: dict[float, str] = {}
    for attributes, text in re.findall(r"<text ([^>]*)>(.*?)</text>", picture):
        if found := re.search(r'\by="([\d.]+)"', attributes):
            height = float(found[1])
            lines[height] = lines.get(height, "") + html.unescape(text).replace("\xa0", " ")
    plain = (re.sub(_NUMBER, "0", line).replace("─", "") for _, line in sorted(lines.items()))
    return [line.split() for line in plain if line.strip()]


if __name__ == "__main__":
    for each in TERMINALS:
        (IMAGES / f"{each}.svg").write_text(record(each))
