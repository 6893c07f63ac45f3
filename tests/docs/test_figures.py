"""What README and docs say of speed comes from the report of the benchmarks, and agrees with it."""

from __future__ import annotations

from benchmarks.report import missed, quoted
from benchmarks.report.figures import read
from benchmarks.report.pages import charted, index, page

FIGURES = read([quoted.REPORT / "figures.json"])
RENEW = "renew it with: python -m benchmarks.report docs/benchmarks/figures.json"


def test_figures_are_those_of_the_report():
    quotations = 0
    for path in quoted.documents():
        text = path.read_text()
        for figure, name in quoted.quotations(text):
            assert figure == FIGURES.told(name), f"{path.name} says {figure} of {name!r}; {RENEW}"
            quotations += 1
        assert quoted.renewed(text, FIGURES) == text, f"{path.name}: {RENEW}"
    assert quotations


def test_no_other_speed_is_told():
    for path in quoted.documents():
        assert quoted.unnamed(path.read_text()) == [], (
            f"{path.name}: put the name of a figure right behind it"
        )


def test_each_target_that_is_missed_has_its_reason():
    text = (quoted.PROJECT / "docs" / "explanation" / "performance.md").read_text()
    told = {
        name
        for name, case in FIGURES.cases.items()
        if not all(target["holds"] for target in case.get("targets", ()))
    }
    assert missed.reasons(text).keys() == told, RENEW
    assert missed.unexplained(text) == [], "say there what stands in the way"


def test_the_report_is_that_of_its_figures():
    assert (quoted.REPORT / "README.md").read_text() == index(FIGURES), RENEW
    names = {"README.md", "figures.json"}
    for group in FIGURES.groups:
        chart = f"{group}.svg" if any(map(charted, FIGURES.of(group).values())) else None
        assert (quoted.REPORT / f"{group}.md").read_text() == page(FIGURES, group, chart), RENEW
        names |= {f"{group}.md", chart or "README.md"}
    assert {path.name for path in quoted.REPORT.iterdir()} == names
