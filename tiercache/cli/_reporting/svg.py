"""Charts as SVG: columns over time, bars, dots on a logarithmic scale. Drawn for about 340 px, and scaled.

Each has a title and a description for those who do not see it, and its marks have theirs, which browsers show
under the pointer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from tiercache.cli._output import cells_of
from tiercache.cli._reporting.elements import Element, el

__all__ = ["Series", "bars", "columns", "dots", "meter"]

_WIDTH = 340.0
_LEFT, _RIGHT, _TOP, _HEIGHT, _BOTTOM = 46.0, 6.0, 12.0, 150.0, 26.0
_ROW = 44.0
#: Characters of a name, of which wide ones count twice; those after it are under the pointer.
_NAME = 24
#: The widest that a column gets.
_WIDEST = 36.0


@dataclass(frozen=True, slots=True)
class Series:
    """Numbers of one kind, a column each; ``None`` where there is none. ``style`` is a class of the styles,
    ``says`` what the pointer shows of each."""

    name: str
    style: str
    values: Sequence[float | None]
    says: Sequence[str]


def columns(
    ident: str,
    title: str,
    about: str,
    labels: Sequence[str],
    series: Sequence[Series],
    *,
    tick: Callable[[float], str],
    stacked: bool = False,
    top: float | None = None,
    whole: bool = False,
) -> Element:
    """A column for each of ``labels`` and ``series``, side by side or ``stacked``; the scale ends at ``top``
    or above the highest. ``whole``: of numbers that have no fractions."""
    highest = top or max((value for one in series for value in one.values if value), default=0.0)
    steps = _ticks(highest, least=1.0 if whole else 0.0)
    scale = _HEIGHT / steps[-1]
    floor_y = _TOP + _HEIGHT
    slot = (_WIDTH - _LEFT - _RIGHT) / max(len(labels), 1)
    width = min(slot * 0.8, _WIDEST) if slot > 3 else slot
    drawn: list[Element] = []
    for step in steps:
        y = floor_y - step * scale
        drawn.append(el("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="rule"))
        drawn.append(el("text", tick(step), x=_LEFT - 6, y=y + 4, text_anchor="end"))
    for index in range(len(labels)):
        x, base = _LEFT + slot * index + (slot - width) / 2, floor_y
        for number, one in enumerate(series):
            value = one.values[index]
            if not value:
                continue
            height = max(value * scale, 1.0)
            each = width if stacked else width / len(series)
            left = x if stacked else x + each * number
            foot = base if stacked else floor_y
            style = f"{one.style} part" if stacked and width > 4 else one.style
            drawn.append(
                el("rect", el("title", one.says[index]), x=left, y=foot - height, width=each, height=height,
                   class_=style)
            )  # fmt: skip
            base = foot - height
    for index in _labelled(len(labels)):
        middle = _LEFT + slot * (index + 0.5)
        anchor = "middle"
        if len(labels) > 2:
            anchor = "start" if index == 0 else "end" if index == len(labels) - 1 else "middle"
            middle += {"start": -slot / 2, "end": slot / 2}.get(anchor, 0)
        drawn.append(el("text", labels[index], x=middle, y=floor_y + 18, text_anchor=anchor))
    return _drawn(ident, title, about, floor_y + _BOTTOM, drawn)


def bars(ident: str, title: str, about: str, rows: Sequence[tuple[str, float, str, str]]) -> Element:
    """A bar for each row: its name, its share of the full length, its number, and its class."""
    drawn: list[Element] = []
    for index, (name, share, number, style) in enumerate(rows):
        y = _ROW * index
        drawn += _named(name, number, y)
        drawn.append(el("rect", x=0, y=y + 24, width=_WIDTH, height=10, rx=3, class_="back"))
        if share:
            length = max(_WIDTH * min(share, 1.0), 2.0)
            drawn.append(el("rect", x=0, y=y + 24, width=length, height=10, rx=3, class_=style))
    return _drawn(ident, title, about, _ROW * len(rows), drawn)


def meter(
    ident: str, title: str, about: str, row: tuple[str, float, str, str], marks: Sequence[float]
) -> Element:
    """One bar, with ``marks`` at some shares of its length."""
    made = bars(ident, title, about, [row])
    for mark in marks:
        x = min(_WIDTH * mark, _WIDTH - 1)
        made.append(el("line", x1=x, x2=x, y1=20, y2=38, class_="limit"))
    return made


def dots(
    ident: str,
    title: str,
    about: str,
    rows: Sequence[tuple[str, Sequence[tuple[float, str]], str]],
    *,
    tick: Callable[[float], str],
) -> Element:
    """A line for each row, its name, its dots (a value and a class each) and its numbers, on a scale whose
    steps are factors of ten: a bar would say nothing there, for it begins nowhere."""
    values = [value for _, marks, _ in rows for value, _ in marks if value > 0]
    low, high = floor(log10(min(values))), ceil(log10(max(values)))
    high = max(high, low + 1)
    every = max(1, ceil((high - low) / 5))
    margin = 26.0  # half of the longest label

    def at(value: float) -> float:
        return margin + (_WIDTH - 2 * margin) * (log10(value) - low) / (high - low)

    foot = _ROW * len(rows)
    drawn: list[Element] = []
    for power in range(low, high + 1, every):
        x = at(10.0**power)
        drawn += [
            el("line", x1=x, x2=x, y1=_ROW * row + 24, y2=_ROW * row + 34, class_="rule")
            for row in range(len(rows))
        ]
        drawn.append(el("text", tick(10.0**power), x=x, y=foot + 16, text_anchor="middle"))
    for index, (name, marks, number) in enumerate(rows):
        y = _ROW * index
        drawn += _named(name, number, y)
        drawn.append(el("line", x1=margin, x2=_WIDTH - margin, y1=y + 29, y2=y + 29, class_="rule"))
        drawn += [
            # Each smaller than the one before: of equal ones all are seen.
            el("circle", el("title", tick(value)), cx=at(value), cy=y + 29, r=max(8 - 2 * n, 3), class_=style)
            for n, (value, style) in enumerate(marks)
            if value > 0
        ]
    return _drawn(ident, title, about, foot + 22, drawn)


def _named(name: str, number: str, y: float) -> list[Element]:
    short = name
    while cells_of(short) > _NAME:
        short = f"{short.removesuffix('…')[:-1]}…"
    return [
        el("text", short, el("title", name), x=0, y=y + 16, class_="name"),
        el("text", number, x=_WIDTH, y=y + 16, text_anchor="end"),
    ]


def _drawn(ident: str, title: str, about: str, height: float, drawn: Sequence[Element]) -> Element:
    return el(
        "svg",
        el("title", title, id=f"{ident}-title"),
        el("desc", about, id=f"{ident}-desc"),
        *drawn,
        viewBox=f"0 0 {_WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{ident}-title {ident}-desc",
    )


def _ticks(highest: float, least: float) -> list[float]:
    """Round numbers from 0 to ``highest`` or just above, four or so, ``least`` apart at least."""
    if highest <= max(least, 0.0):
        return [0.0, 1.0]
    size = 10.0 ** floor(log10(highest / 4))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor * 4 >= highest * 0.999999)
    step = max(step, least)
    return [step * number for number in range(ceil(highest / step - 1e-6) + 1)]


def _labelled(count: int) -> list[int]:
    """Which of so many columns have a label: the first, the last, and one between."""
    return sorted({0, count // 2, count - 1}) if count > 4 else list(range(count))
