"""The page of `tiercache report`: well-formed, whole by itself, legible in both schemes, and honest."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product

import pytest
from reports import NASTY, bare, full, popular

from tiercache.cli._reporting.look import DARK, LIGHT, SERIES, css
from tiercache.cli._reporting.page import as_html
from tiercache.cli._reporting.svg import Series, columns
from tiercache.cli._reporting.text import _tier, show
from tiercache.ledger import Statement

VOID = {"meta"}
REPORTS = {
    "bare": bare(),
    "one day": full(1),
    "a month": full(30, first=NASTY),
    "all days": full(400),
    "no prices": full(8, currency=""),
    "over the budget": full(3, spent="12"),
    "popular keys": popular(NASTY, None, "x" * 3000, "\x00\x1b\ud800\u202e", *map(str, range(30))),
}


@pytest.fixture(params=REPORTS, scope="module")
def page(request):
    return as_html(REPORTS[request.param])


class Strict(HTMLParser):
    """Refuses what is not closed, or closed twice."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen = [], []
        self.texts = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        assert len({name for name, _ in attributes}) == len(attributes), tag
        self.seen.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attributes):
        pytest.fail(f"<{tag}/> ends nothing in HTML")

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)


def test_it_is_well_formed_with_a_language_a_title_and_single_names(page):
    seen = Strict(page).seen
    assert page.startswith("<!doctype html>\n")
    assert seen[0] == ("html", {"lang": "en"})
    names = [attributes["id"] for _, attributes in seen if "id" in attributes]
    assert len(names) == len(set(names))
    tags = [tag for tag, _ in seen]
    assert (tags.count("h1"), tags.count("main"), tags.count("style")) == (1, 1, 1)


def test_nothing_comes_from_elsewhere_and_nothing_runs(page):
    for tag, attributes in Strict(page).seen:
        assert tag not in (
            "script",
            "link",
            "img",
            "iframe",
            "object",
            "base",
            "a",
            "form",
            "use",
            "image",
        ), tag
        assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "style")]
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|@font-face|expression|https?:", style)
    assert "default-src 'none'" in page


def test_names_are_text_and_nothing_else():
    page = as_html(full(30, first=NASTY))
    assert "<script" not in page
    assert any(NASTY in text for text in Strict(page).texts)


def test_charts_are_told_in_words_and_stay_in_their_frames(page):
    charts = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    for text in charts:
        chart = ET.fromstring(text)  # noqa: S314 - our own
        _, _, width, height = map(float, chart.get("viewBox").split())
        named = {one.get("id"): one.text for one in chart if one.get("id")}
        assert chart.get("role") == "img"
        assert set(chart.get("aria-labelledby").split()) == set(named)
        assert all(named.values())
        for rect in chart.iter("rect"):
            x, y, w, h = (float(rect.get(name)) for name in ("x", "y", "width", "height"))
            assert min(x, y, w, h) >= 0
            assert x + w <= width + 0.02
            assert y + h <= height + 0.02
        for dot in chart.iter("circle"):
            assert 0 < float(dot.get("cx")) < width
            assert 0 < float(dot.get("cy")) < height


def test_what_is_known_is_drawn():
    assert len(re.findall("<svg", as_html(bare()))) == 0
    titles = re.findall(r"<h3>(.*?)</h3>", as_html(full(30)))
    assert titles == [
        "Entries", "Size", "Hit ratio", "Latency", "Budget of 1 Jul (UTC)", "Hit ratio by day (UTC)",
        "Money by day, USD", "Time in calls by day, hours", "Failed calls of loaders by day",
    ]  # fmt: skip
    assert "Money" not in as_html(full(8, currency=""))
    assert "Calls of loaders by day" in as_html(full(8, currency=""))


def test_many_days_are_drawn_as_weeks_and_none_is_lost():
    page = as_html(full(400))
    assert "Hit ratio by week (UTC)" in page
    assert "By day" in page  # the table has them all
    failed = page[page.index("Failed calls of loaders by week") :]
    counts = [int(one) for one in re.findall(r"(\d+) failed calls", failed)]
    books = full(400).books
    assert sum(counts) == books.total.failed == sum(day.row.failed for day in books.days)
    assert len(counts) <= 58
    assert "Hit ratio by 14 days (UTC)" in as_html(full(800))


def test_heights_are_the_numbers():
    drawn = columns(
        "i", "t", "d", ["a", "b", "c"],
        [Series("x", "c1", [0.25, None, 0.5], [""] * 3), Series("y", "c2", [0.5, None, 0.0], [""] * 3)],
        tick=str, stacked=True, top=1.0,
    )  # fmt: skip
    first, second, third = [
        (one.get("class"), float(one.get("y")), float(one.get("height"))) for one in drawn.iter("rect")
    ]
    assert first[2] * 2 == second[2] == third[2]
    assert second[1] + second[2] == first[1]  # it stands on the other
    assert first[1] + first[2] == third[1] + third[2]


def test_what_is_estimated_is_said_to_be_and_the_rest_is_measured():
    page = as_html(full(30))
    tiles = re.findall(r'<span>([^<]*)</span><b[^>]*>([^<]*)</b><span class="tag">([^<]*)</span>', page)
    sources = {name: source.rpartition(" ")[2].strip() for name, _, source in tiles}
    assert {name for name, source in sources.items() if source == "estimated"} == {"Saved", "Time saved"}
    assert set(sources.values()) == {"estimated", "measured"}
    numbers = {name: number for name, number, _ in tiles}
    assert numbers["Hit ratio"] == "99.7%"
    assert numbers["Spent"].endswith(" USD")
    assert numbers["Time saved"].endswith(" h")
    assert "tokens were estimated" in page
    assert "calls of models without a price are not in the money" in page


@pytest.mark.parametrize(
    ("calls", "told"),
    [(1, "1 call of a model without a price is"), (1200, "1,200 calls of models without a price are")],
)
def test_calls_without_a_price_are_told_in_plain_words(calls, told, capsys):
    report = full(1)
    books = replace(report.books, total=replace(report.books.total, unpriced=calls))
    show(replace(report, books=books))
    assert f"\n{told} not in the money\n" in capsys.readouterr().out
    assert f" {told} not in the money." in as_html(replace(report, books=books))
    assert f"\n{told} not in the money" in str(Statement((books.total,)))


def test_wide_characters_have_the_room_that_they_take(capsys):
    name = "层" * 30
    report = full(1, first=name)
    show(report)
    said = capsys.readouterr().out.splitlines()
    row = next(line for line in said if line.startswith(name))
    heading = next(line for line in said if line.startswith("tier "))
    assert row.index("disk") + len(name) == heading.index("kind")
    page = as_html(report)
    assert f">{'层' * 11}…<" in page  # of 24 cells in a chart
    assert "层" * 12 + "…" not in page


def test_latency_is_told_in_quantiles_and_where_from():
    page = as_html(full(1))
    [drawn] = re.findall(r'<svg[^>]*aria-labelledby="latency-title.*?</svg>', page, re.DOTALL)
    assert "loader 8.3 s / 8.3 s / 8.3 s" in drawn
    assert "read memory 2.3 ms / 34.9 ms / 34.9 ms" in drawn
    assert len(re.findall("<circle", drawn)) == 3 * 6  # nothing was written to the first tier
    assert "memory: estimated from samples" in page
    assert '<td role="cell" data-label="p99">34.9 ms</td>' in page


def test_popular_keys_are_drawn_and_told_one_by_one_or_not_at_all():
    page = as_html(popular("front-page", None, "x" * 3000))
    [drawn] = re.findall(r'<svg[^>]*aria-labelledby="popular-title.*?</svg>', page, re.DOTALL)
    widths = [float(one) for one in re.findall(r'width="([\d.]+)" height="10" rx="3" class="c1"', drawn)]
    assert [round(one / widths[0], 2) for one in widths] == [1, 0.2, 0.04]
    assert "front-page 10,000,000; 0000000000000001 2,000,000" in drawn
    cells = re.findall(r'<td role="cell" data-label="(?:key|times|too high by at most)"[^>]*>([^<]*)<', page)
    assert cells == ["front-page", "10,000,000", "0", "-", "2,000,000", "1", "x" * 99 + "…", "400,000", "2"]
    assert "Popular keys" not in as_html(full(30))
    assert "None are known" in as_html(bare(popular=()))


def test_what_is_missing_is_told():
    page = as_html(bare())
    assert "The tier sql did not answer." in "".join(Strict(page).texts)
    assert "The cache keeps no ledger." in page
    assert "down: did not answer" in page


def test_the_terminal_marks_what_the_page_does():
    """Errors, what a tier has yet to hear of, and that it is down; what there is none of is not marked."""
    well, ill = full().tiers[:2]
    ill = replace(ill, state="down", why="did not answer")
    assert [(ill.failures, ill.counted["owed"]), (well.failures, well.counted["owed"])] == [(1, 1), (0, 0)]
    page = as_html(bare(tiers=(well, ill)))
    marked = re.findall(r'data-label="([^"]+)"[^>]*><span class="(bad|warn)">([^<]+)<', page)
    assert marked == [
        ("errors", "bad", "1"),
        ("owed", "warn", "1"),
        ("its entries are", "bad", "down: did not answer"),
    ]
    styles = [[(cell.text, cell.style) for cell in _tier(tier)[-3:]] for tier in (well, ill)]
    assert styles[1] == [("1", "red"), ("1", "yellow"), ("did not answer", "red")]
    assert [style for _, style in styles[0]] == ["", "", "dim"]


# -- colours ---------------------------------------------------------------------------------------


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [one / 12.92 if one <= 0.03928 else ((one + 0.055) / 1.055) ** 2.4 for one in parts]
    return sum(weight * one for weight, one in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_can_be_told_from_what_is_behind(scheme):
    for text, behind in product(("ink", "soft", "bad", "warn"), ("paper", "card")):
        assert contrast(scheme[text], scheme[behind]) >= 4.5, (text, behind)
    for number in range(1, SERIES + 1):
        assert contrast(scheme[f"c{number}"], scheme["card"]) >= 3, number
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_both_schemes_have_all_colours_and_paper_is_light():
    text = css()
    assert LIGHT.keys() == DARK.keys() == set(re.findall(r"var\(--(\w+)\)", text))
    dark = text.index("@media screen and (prefers-color-scheme:dark)")
    assert text.index(f"--paper:{LIGHT['paper']}") < dark < text.index(f"--paper:{DARK['paper']}")
    assert text.count(DARK["paper"]) == 1
