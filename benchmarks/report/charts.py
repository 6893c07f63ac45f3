"""Charts as SVG: bars of times or amounts, a panel a case, and lines over size.

The same figures give the same bytes. Readable on a light page and on a dark one (the ground is opaque), and
without colours: each bar has its name and its figure beside it, each line a mark and a dash of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from textwrap import shorten

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from benchmarks.report.figures import Case, measure
from benchmarks.report.pages import heading

__all__ = ["chart"]

_GROUND, _INK, _OURS, _OTHERS = "#ffffff", "#1f2328", "#0b5fad", "#9aa4b0"
_COLOURS = ("#0b5fad", "#b3500f", "#287233", "#7a3b97", "#8c1d40", "#5a6068")
_MARKS, _DASHES = "os^Dv*", ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
_STYLE = {
    "svg.hashsalt": "benchmarks",  # or each run would number its parts at random
    "svg.fonttype": "none",  # text that can be searched, selected and read aloud
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "axes.titlesize": 9,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_BAR, _HEAD, _LINES = 0.21, 0.9, 3.05  # inches high: a bar, a panel without its bars, a panel of lines
_WIDTH = 10.0
#: Points between a panel and its name, where its title is, and how many letters of that.
_UNDER, _LONGEST = 15, 68
#: Units of which more is better; of all others less is.
_MORE = ("%", "points")
#: What a tick at zero may come to by rounding.
_NOTHING = 1e-12
#: How many times as high the highest point is where a height is told by its logarithm.
_FAR = 20


def chart(group: str, cases: dict[str, Case]) -> bytes:
    """One panel for each of ``cases``, one below the other in two columns."""
    with mpl.rc_context(_STYLE):
        panels = [list(cases.items())[at : at + 2] for at in range(0, len(cases), 2)]
        heights = [max(_height(case) for _, case in row) for row in panels]
        figure = Figure(figsize=(_WIDTH, sum(heights) + 0.5), facecolor=_GROUND, layout="constrained")
        figure.suptitle(heading(group), weight="bold", size=12)
        axes = figure.subplots(len(panels), 2, squeeze=False, height_ratios=heights)
        for row, places in zip(panels, axes, strict=True):
            most = max(_bars_of(case) for _, case in row)
            for (name, case), place in zip(row, places, strict=False):
                _panel(place, name, case, 0.72 * _bars_of(case) / most)
            for place in places[len(row) :]:
                place.set_axis_off()
        written = BytesIO()
        FigureCanvasSVG(figure).print_svg(
            written, metadata={"Title": f"{heading(group)}: benchmarks", "Date": None, "Creator": None}
        )
    # Blanks at the ends of lines are of no use, and checks of a repository object to them.
    lines = written.getvalue().decode().splitlines()
    return ("\n".join(line.rstrip() for line in lines) + "\n").encode()


def _bars_of(case: Case) -> int:
    return len(case["took"])


def _curves(case: Case) -> bool:
    """Whether there are lines to draw: a curve of one point is none."""
    return any(len(points) > 1 for points in case.get("series", {}).values())


def _height(case: Case) -> float:
    if _curves(case):
        return _LINES + 0.75 * _BAR * len(case["series"])
    return _HEAD + _BAR * _bars_of(case)


def _panel(axes: Axes, name: str, case: Case, thick: float) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(name, loc="left", weight="bold", pad=_UNDER)
    axes.annotate(
        shorten(case["title"].partition(". ")[0].replace("`", ""), _LONGEST, placeholder=" …"),
        xy=(0, 1),
        xytext=(0, _UNDER / 3),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=7.5,
    )
    if _curves(case):
        _lines(axes, case)
    else:
        _bars(axes, case, thick)
    what = f"for one {case['thing']}, median" if "thing" in case else case["unit"]
    better = "more is better" if case["unit"] in _MORE else "less is better"
    if _curves(case):
        axes.set_xlabel(f"{case.get('axis', 'entries')}, logarithmic")
        told = f"{what}, logarithmic" if axes.get_yscale() == "log" else what
        axes.set_ylabel(f"{told} ({better})")
    else:
        told = f"{what} and middle half" if "rounds" in case else what
        axes.set_xlabel(f"{told} ({better})".lstrip())


def _bars(axes: Axes, case: Case, thick: float) -> None:
    spreads = case["took"]
    names = list(spreads)
    values = [spreads[name]["median"] for name in names]
    ours = case.get("ours", [name for name in names if name.startswith("tiercache")])
    colours = [_OURS if name in ours else _OTHERS for name in names]
    axes.barh(names, values, color=colours, height=thick)
    most = max(spread.get("high", spread["median"]) for spread in spreads.values())
    least = min(0.0, *values)
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        spread = spreads[name]
        end = max(value, 0.0)
        if "low" in spread:
            axes.plot([spread["low"], spread["high"]], [at, at], color=_INK, linewidth=0.9)
            end = max(end, spread["high"])
        axes.text(end + 0.015 * (most - least), at, measure(case, value), va="center")
    axes.invert_yaxis()
    axes.set_xlim(1.05 * least, least + 1.3 * (most - least) or 1)  # room for the figures beside the bars
    axes.xaxis.set_major_locator(mpl.ticker.MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(_ticks(case)))
    axes.tick_params(axis="y", length=0)


def _ticks(case: Case) -> Callable[[float, int], str]:
    def told(value: float, _at: int) -> str:
        if abs(value) < _NOTHING:
            return "0"
        figure, blank, unit = measure(case, value, digits=3).partition(" ")
        if "." in figure:
            figure = figure.rstrip("0").rstrip(".")
        return f"{figure}{blank}{unit}"

    return told


def _lines(axes: Axes, case: Case) -> None:
    for at, (name, points) in enumerate(case["series"].items()):
        axes.plot(
            *zip(*points, strict=True),
            label=name,
            color=_COLOURS[at % len(_COLOURS)],
            marker=_MARKS[at % len(_MARKS)],
            linestyle=_DASHES[at % len(_DASHES)],
            markersize=4,
            linewidth=1.4,
        )
    axes.set_xscale("log")
    heights = [y for points in case["series"].values() for _, y in points]
    if min(heights) > 0 and max(heights) > _FAR * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0, 1.1 * max(heights) or 1)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _at: f"{value:,.0f}"))
    sizes = {x for points in case["series"].values() for x, _ in points}
    axes.xaxis.set_major_locator(FixedLocator(sorted(sizes)))  # decades alone may be one, or none
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(_ticks(case)))
    axes.grid(axis="y", color="#d8dde3", linewidth=0.6)
    # Below, where it hides no line.
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(-0.02, -0.2), frameon=False)
