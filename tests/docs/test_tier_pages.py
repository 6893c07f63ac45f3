"""The pages of the tiers and of a cache's options: their tables are the schema's, their examples build."""

from __future__ import annotations

import pytest
from doc_snippets import ROOT, blocks
from schema_pages import RENEW, SCHEMA, options, pages, part, renewed, required, tables, values

from tiercache import TieredCache
from tiercache.config._models import MODELS

FOLDER = ROOT / "docs" / "reference" / "tiers"
PAGES = sorted(FOLDER.glob("*.md"))
EXAMPLES = [block for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_are_as_the_schema_is(page):
    assert page.read_text() == renewed(page), f"renew it: {RENEW}"


def test_all_that_can_be_set_is_on_a_page():
    shown = {one for page in pages() for one in tables(page)}
    assert shown == {*MODELS, "cache", "view", "codec-table/vector", "compress", "encrypt", "values"}
    assert {page.stem for page in PAGES} == {*MODELS, "chain"}
    assert options("chain").keys() == options("cache").keys() - {"views"}, (
        "a table of its own would say the same"
    )


def test_a_table_has_a_row_for_each_option():
    for page in pages():
        for one in set(tables(page)) - {"values"}:
            assert options(one)
            for name in options(one):
                assert f"\n| `{name}` | " in page.read_text()
    assert required("disk") >= {"path"}
    assert options("disk").keys() == part("disk")["properties"].keys() - {"type", "directory"}


def test_each_kind_of_value_is_told():
    text = (FOLDER / "chain.md").read_text()
    for name in values():
        assert SCHEMA["$defs"][name]["description"] in text


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"{block.page.stem} line {block.line}")
def test_each_example_is_in_order(block, tmp_path, monkeypatch):
    for variable in ("REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    file = tmp_path / "tiercache.toml"
    file.write_text(block.text)
    with TieredCache.from_config(file) as cache:
        assert cache.config()["tiers"]
        assert all(view.codec is not None for view in cache.views.values())
