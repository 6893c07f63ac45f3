"""A report as one page of HTML: no script, nothing from elsewhere, light and dark, for screens and paper.

What is in it is what the `record` holds; the policy in its head keeps a browser from loading anything at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tiercache import __version__
from tiercache.cli._reporting.charts import budget_chart, charts_of_days, charts_of_tiers, popular_chart
from tiercache.cli._reporting.elements import Element, el, html, raw_text
from tiercache.cli._reporting.look import css
from tiercache.cli._reporting.record import Books, Report, TierPart
from tiercache.cli._reporting.rows import (
    ABOUT_LOADS,
    ABOUT_POPULAR,
    ABOUT_QUANTILES,
    POPULAR,
    QUANTILES,
    Sums,
    answered,
    days_of,
    latencies,
    marks_of,
    named,
    popular_rows,
    quantiles_of,
    sums_of,
    tier_row,
    total_of,
)
from tiercache.cli._reporting.words import amount, hours, moment, percent, processes, spent_of
from tiercache.ledger import about_unpriced

__all__ = ["as_html"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_ESTIMATED = (
    "Estimated: a text that a tier had is worth the mean of those that were paid for, of the same model and "
    "namespace on the same day, or else on all days that are kept."
)
#: Headings of columns of text, which begin at the left.
_TEXT = ("kind", "its entries are", "namespace", "digest")


def as_html(report: Report) -> str:
    """``report`` as a whole page."""
    name = f"Cache report: {report.cache}" if report.cache else "Cache report"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="referrer", content="no-referrer"),
        el("title", name),
        el("style", raw_text(css())),
    )
    body = el("body", _top(report, name), el("main", *_main(report)), _foot(report))
    return html(el("html", head, body, lang="en"))


def _top(report: Report, name: str) -> Element:
    said = [f"Made {moment(report.made_at)}."]
    if report.statistics is not None:
        found = report.statistics
        said.append(
            f"Statistics of {processes(found.processes, found.running)}, from "
            f"{moment(found.started)} to {moment(found.updated)}."
        )
    if report.books is not None and report.books.days:
        said.append(f"Ledger from {report.books.days[0].day} to {report.books.days[-1].day} (UTC).")
    return el("header", el("h1", name), el("p", " ".join(said), class_="soft"))


def _main(report: Report) -> Iterator[Element]:
    for problem in report.problems:
        yield el("p", el("strong", "Not whole: "), f"{problem}.", class_="said problem")
    for hint in report.hints:
        yield el("p", hint, class_="said")
    tiles = list(_tiles(report))
    if tiles:
        yield el("section", el("div", *tiles, class_="tiles"), aria_label="The most important numbers")
    yield _section("Tiers", [_tiers(report.tiers), *charts_of_tiers(report), *_latencies(report)])
    if report.popular:
        about = el("p", f"{ABOUT_POPULAR}.", class_="soft")
        table = _table("Popular keys", POPULAR, popular_rows(report))
        yield _section("Popular keys", [about, popular_chart(report.popular), table])
    elif report.popular is not None:
        yield _section("Popular keys", [el("p", "None are known.")])
    books = report.books
    if books is not None and not books.is_empty:
        names = [tier.name for tier in report.tiers]
        charts = list(charts_of_days(books, names))
        if report.budget is not None:
            charts.insert(0, budget_chart(report.budget))
        yield _section("Over time", [*charts, *_tables(books)])
    elif report.budget is not None:
        yield _section("Budget", [budget_chart(report.budget)])


def _section(title: str, parts: Sequence[Element]) -> Element:
    wide = [part for part in parts if part.get("class") != "card" or part.tag != "figure"]
    figures = [part for part in parts if part.tag == "figure"]
    before = [part for part in wide if part.tag != "details"]
    after = [part for part in wide if part.tag == "details"]
    return el(
        "section",
        el("h2", title),
        *before,
        el("div", *figures, class_="grid") if figures else None,
        *after,
    )


# -- numbers ---------------------------------------------------------------------------------------


def _tiles(report: Report) -> Iterator[Element]:
    found, books = report.statistics, report.books
    if found is not None:
        yield _tile("Hit ratio", percent(found.hit_ratio), "of all look-ups, measured")
        yield _tile("Calls saved", f"{found.saved['calls']:,}", "hits and shared loads, measured")
        errors = sum(tier.failures for tier in report.tiers)
        yield _tile("Errors of tiers", f"{errors:,}", "time-outs and damage too, measured", bad=errors > 0)
        yield _tile(
            "Failed loads", f"{found.total['load_errors']:,}", f"of {found.total['loads']:,}, measured"
        )
    if books is not None:
        total = books.total
        if found is None:
            yield _tile("Hit ratio", percent(books.hit_ratio), "of look-ups in the ledger, measured")
        if books.currency:
            yield _tile("Spent", amount(total.money_spent, books.currency), "measured")
            yield _tile("Saved", amount(total.money_saved, books.currency), "estimated")
        yield _tile("Time spent in calls", hours(total.seconds_spent), "measured")
        yield _tile("Time saved", hours(total.seconds_saved), "estimated")
    if report.budget is not None:
        spent = report.budget
        what = f"{spent_of(spent)} today, measured"
        yield _tile("Budget spent", percent(spent.share), what, bad=spent.share >= 1)


def _tile(name: str, number: str, source: str, *, bad: bool = False) -> Element:
    shown = el("b", number, class_="bad" if bad else None)
    return el("div", el("span", name), shown, el("span", source, class_="tag"), class_="card tile")


_TIERS = ("tier", "kind", "entries", "size", "hits", "misses", "hit ratio", "read", "write", "evicted",
          "errors", "owed", "its entries are")  # fmt: skip


def _tiers(tiers: Sequence[TierPart]) -> Element:
    return _table("The tiers, from the top down", _TIERS, [_tier(tier) for tier in tiers])


def _tier(tier: TierPart) -> list[str | Element]:
    row, marks = tier_row(tier), marks_of(tier)
    if "state" in marks:
        row["state"] = f"down: {row['state']}"
    return [
        *(row[name] for name in ("name", "kind", "entries", "size", "hits", "misses")),
        *(row[name] for name in ("ratio", "read", "write", "evictions")),
        *(
            el("span", row[name], class_=marks[name]) if name in marks else row[name]
            for name in ("errors", "owed", "state")
        ),
    ]


def _latencies(report: Report) -> Iterator[Element]:
    rows = [[who, *quantiles_of(latency)] for who, latency in latencies(report)]
    kept = report.books is not None and not report.books.is_empty
    if rows:
        table = _table("Latency", ("calls", *QUANTILES), rows)
        yield el(
            "details",
            el("summary", "Latency in numbers"),
            table,
            el("p", f"{ABOUT_QUANTILES}{f'; {ABOUT_LOADS}' if kept else ''}.", class_="soft"),
        )


# -- tables of the ledger --------------------------------------------------------------------------

_SUMS = ("wanted", "from tiers", "hit ratio", "calls", "failed", "tokens", "spent", "saved (estimated)",
         "time spent", "time saved (estimated)")  # fmt: skip


def _tables(books: Books) -> Iterator[Element]:
    yield _details("By day", "day (UTC)", days_of(books), books)
    for title, name, rows in (
        ("By model", "model", books.models),
        ("By namespace", "namespace", books.namespaces),
    ):
        first, left = named(rows, name)
        yield _details(title, name, first, books, left)
    table = _table("Who answered", ("answered by", "texts"), answered(books))
    yield el("details", el("summary", "By who answered"), table)


def _details(title: str, name: str, rows: Sequence[Sums], books: Books, left: int = 0) -> Element:
    cells = [[sums[0], *sums_of(sums, books.currency).values()] for sums in rows]
    whole = total_of("all", books, of_days=title == "By day")
    total = [whole[0], *sums_of(whole, books.currency).values()]
    more = el("p", f"{left:,} more are not shown, and in the sum.", class_="soft")
    table = _table(title, (name, *_SUMS), cells, total)
    return el("details", el("summary", title), table, more if left else None)


def _table(
    title: str,
    headings: Sequence[str],
    rows: Sequence[Sequence[str | Element]],
    total: Sequence[str] = (),
) -> Element:
    """A table, whose rows are blocks where the window is narrow; the roles keep it a table for readers."""

    def line(cells: Sequence[str | Element]) -> Element:
        made = [
            el("td", cell, role="cell", data_label=heading, class_="t" if heading in _TEXT else None)
            for heading, cell in zip(headings, cells, strict=True)
        ]
        return el("tr", *made, role="row")

    heads = [
        el("th", one, scope="col", role="columnheader", class_="t" if one in _TEXT else None)
        for one in headings
    ]
    table = el(
        "table",
        el("thead", el("tr", *heads, role="row"), role="rowgroup"),
        el("tbody", *map(line, rows), role="rowgroup"),
        el("tfoot", line(total), role="rowgroup") if total else None,
        class_="stack",
        role="table",
        aria_label=title,
    )
    return el("div", table, class_="card scroll", tabindex="0", role="region", aria_label=title)


def _foot(report: Report) -> Element:
    said = [
        f"Made by tiercache {__version__}.",
        "Measured: counted by the processes of this machine, by the ledger, or in the tiers just now.",
        _ESTIMATED,
    ]
    books = report.books
    if books is not None and books.total.unpriced:
        said.append(f"{about_unpriced(books.total.unpriced)}.")
    if books is not None and books.total.estimated:
        said.append(f"{books.total.estimated:,} of {books.total.tokens:,} tokens were estimated.")
    return el("footer", el("p", " ".join(said)))
