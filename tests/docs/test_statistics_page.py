"""The page on statistics describes every field and column that there is, and no other."""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
from doc_snippets import ROOT

from tiercache import CacheStats, TierStats
from tiercache.stats import TierCounters

PAGE = (ROOT / "docs" / "explanation" / "statistics.md").read_text()
NAME = re.compile(r"`([^`]+)`")


def rows(heading: str) -> dict[str, str]:
    """Below ``heading``: what stands in the first column of its table, and in the second."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line.strip("| ") for line in section.splitlines() if line.startswith("|")][2:]
    return dict(line.split(" | ", 1) for line in lines)


@pytest.mark.parametrize(
    ("heading", "kind"), [("A tier", TierStats), ("The chain", CacheStats)], ids=["tier", "chain"]
)
def test_every_field_is_described(heading, kind):
    described = [NAME.fullmatch(name)[1] for name in rows(heading)]
    assert described == [*(field.name for field in fields(kind)), "hit_ratio"]
    assert all(text.strip() for text in rows(heading).values())


def test_every_column_is_described():
    named = [name for cell in rows("The table") for name in NAME.findall(cell)]
    header = str(CacheStats(())).splitlines()[0]
    assert sorted(named) == sorted(re.split(r"\s{2,}", header.strip()))


def test_what_the_columns_are_made_of_is_told():
    # Each counter stands alone: what is added up in a column is what the page says.
    counters = [
        name for name in TierCounters.__slots__ if name in NAME.findall(rows("The table")["`errors`"])
    ]
    assert counters
    for field in fields(TierStats):
        if field.type != "int" or field.name in ("hits", "misses"):
            continue
        header, _, row, *_ = str(CacheStats((TierStats("t", **{field.name: 7}),))).splitlines()
        cells = dict(zip(re.split(r"\s{2,}", header), re.split(r"\s{2,}", row), strict=True))
        assert (cells["errors"] == "7") == (field.name in counters), field.name


def test_the_words_of_the_summary_are_explained():
    summary = str(CacheStats((TierStats("t", skipped=1, owed=1),))).splitlines()[-2:]
    for words in ("coalesced", "served stale", "not storable", "writes suppressed"):
        assert words in summary[0]
        assert f'"{words}"' in PAGE
