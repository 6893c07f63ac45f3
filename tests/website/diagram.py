"""The diagram of who imports whom, as SVG: a box for each layer of `layers.LAYERS`, arrows as the code is.

An arrow that follows from others is left out: who imports the chain may import all that the chain does. It is
as wide as a phone, and has a background of its own, so that it can be read on any page.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from html import escape

from layers import ABOVE_THE_CHAIN, LAYERS, graph, top

__all__ = ["picture"]

#: What each box is for: who is above the chain, `LAYERS` from the top, and who knows contracts alone.
CAPTIONS = (
    "what users touch",
    "the cache",
    "made of files and mappings",
    "the core, and loading",
    "the ledger",
    "who writes, who loads",
    "how one tier is called",
    "for blocking and async callers",
    "options, keys, codecs, numbers",
    "contracts",
    "what all agree on",
    "storage",
    "for tests of yours",
)
WIDTH, LEFT, LANES, GAP = 360, 6, 26, 22
LINE, LETTER = 14.5, 6.4

_STYLE = """
  svg { --ground: #ffffff; --box: #eef1fb; --edge: #5a6bb0; --text: #1b1f33; --soft: #50566e; }
  @media (prefers-color-scheme: dark) {
    svg { --ground: #15171f; --box: #232738; --edge: #93a2e8; --text: #eceefa; --soft: #b3b9d3; }
  }
  text { font: 10.5px ui-monospace, Menlo, Consolas, monospace; fill: var(--text); }
  .caption { font: bold 11px system-ui, sans-serif; fill: var(--soft); }
  .ground { fill: var(--ground); }
  .box { fill: var(--box); stroke: var(--edge); }
  .arrow { fill: none; stroke: var(--edge); stroke-width: 1.3; marker-end: url(#head); }
  marker path { fill: var(--edge); }
"""

_FRAME = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"
  width="{width}" height="{height}" role="img">
<title>Who imports whom in tiercache</title>
<style>{style}</style>
<defs>
<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">
<path d="M0 0L8 4L0 8z"/>
</marker>
</defs>
{parts}
</svg>
"""


@dataclass
class _Box:
    caption: str
    modules: frozenset[str]
    x: float = 0
    y: float = 0
    width: float = 0
    height: float = 0

    def lines(self) -> list[str]:
        names = " ".join(sorted(self.modules, key=lambda name: (name.lstrip("_"), name)))
        return textwrap.wrap(
            names, int((self.width - 12) / LETTER), break_long_words=False, break_on_hyphens=False
        )


def picture() -> str:
    """The diagram of the package as it is."""
    imports = graph()
    there = [ABOVE_THE_CHAIN - {"", "__main__"}, *reversed(LAYERS), {"tiers"}, {"testing"}]
    present = {top(module) for module in imports}
    boxes = [
        _Box(caption, frozenset(modules & present)) for caption, modules in zip(CAPTIONS, there, strict=True)
    ]
    arrows = _arrows(boxes, imports)
    ranks = _ranks(arrows, len(boxes))
    far = {target for source, target in arrows if ranks[source] - ranks[target] > 1}
    rows = [
        sorted((at for at in range(len(boxes)) if ranks[at] == rank), key=lambda at: at in far)
        for rank in range(max(ranks), -1, -1)
    ]
    height = _place([[boxes[at] for at in row] for row in rows])
    # The longer one is, the farther out: they cross none of their ends then.
    arrows.sort(key=lambda arrow: ranks[arrow[0]] - ranks[arrow[1]])
    aside = [arrow for arrow in arrows if ranks[arrow[0]] - ranks[arrow[1]] > 1]
    drawn = [
        _aside(boxes[source], boxes[target], aside.index((source, target)))
        if (source, target) in aside
        else _straight(boxes[source], boxes[target])
        for source, target in arrows
    ]
    parts = [
        f'<rect class="ground" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
        *map(_drawn, boxes),
        *drawn,
    ]
    return _FRAME.format(width=WIDTH, height=round(height), style=_STYLE, parts="\n".join(parts))


def _arrows(boxes: list[_Box], imports: Mapping[str, set[str]]) -> list[tuple[int, int]]:
    """Who imports whom, by their places in ``boxes``, without what follows from others."""
    home = {module: at for at, box in enumerate(boxes) for module in box.modules}
    direct: dict[int, set[int]] = {at: set() for at in range(len(boxes))}
    for module, imported in imports.items():
        if top(module) in home:
            source = home[top(module)]
            direct[source] |= {home[top(name)] for name in imported if top(name) in home} - {source}

    @cache
    def reached(source: int) -> frozenset[int]:
        return frozenset(direct[source].union(*(reached(at) for at in direct[source])))

    return [
        (source, target)
        for source, targets in direct.items()
        for target in sorted(targets)
        if not any(target in reached(other) for other in targets)
    ]


def _ranks(arrows: list[tuple[int, int]], count: int) -> list[int]:
    @cache
    def rank(at: int) -> int:
        return max((rank(target) + 1 for source, target in arrows if source == at), default=0)

    return [rank(at) for at in range(count)]


def _place(rows: list[list[_Box]]) -> float:
    """Give each box its place; the height of all."""
    y = 8.0
    for row in rows:
        width = (WIDTH - LEFT - LANES - 8 * (len(row) - 1)) / len(row)
        for at, box in enumerate(row):
            box.x, box.y, box.width = LEFT + at * (width + 8), y, width
            box.height = LINE * (len(box.lines()) + len(_caption(box))) + 8
        tallest = max(box.height for box in row)
        for box in row:
            box.height = tallest
        y += tallest + GAP
    return y - GAP + 8


def _caption(box: _Box) -> list[str]:
    return textwrap.wrap(box.caption, int((box.width - 12) / 6))


def _drawn(box: _Box) -> str:
    place = f'x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" height="{box.height:.1f}"'
    parts = [f'<rect class="box" {place} rx="4"/>']
    y = box.y + 1
    for kind, lines in (('class="caption" ', _caption(box)), ("", box.lines())):
        for line in lines:
            y += LINE
            parts.append(f'<text {kind}x="{box.x + 6:.1f}" y="{y:.1f}">{escape(line)}</text>')
    return "\n".join(parts)


def _straight(source: _Box, target: _Box) -> str:
    """Down to the row below, from where both are, if they share a width, or slanting."""
    left, right = max(source.x, target.x), min(source.x + source.width, target.x + target.width)
    x = (left + right) / 2
    return f'<path class="arrow" d="M{x:.1f} {source.y + source.height:.1f}L{x:.1f} {target.y - 1:.1f}"/>'


def _aside(source: _Box, target: _Box, lane: int) -> str:
    """Past the rows between them, on the right."""
    x = WIDTH - LANES + 8 + 8 * lane
    here, there = source.y + source.height / 2, target.y + target.height / 2
    return (
        f'<path class="arrow" d="M{source.x + source.width:.1f} {here:.1f}H{x:.1f}V{there:.1f}'
        f'H{target.x + target.width + 1:.1f}"/>'
    )
