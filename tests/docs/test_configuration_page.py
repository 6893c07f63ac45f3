"""Every configuration on the page builds the cache that it describes."""

from __future__ import annotations

import pytest
from doc_snippets import ROOT, blocks

from tiercache import TieredCache
from tiercache.config import cache_names, read

PAGE = ROOT / "docs" / "reference" / "configuration.md"
EXAMPLES = blocks(PAGE, "toml", "yaml", "json")


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: f"line {block.line}")
def test_each_example_is_in_order(block, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NEW_KEY", "0a" * 32)
    monkeypatch.setenv("OLD_KEY", "b1" * 32)
    file = tmp_path / f"example.{block.language}"
    file.write_text(block.text)
    for name in cache_names(read(file).content) or (None,):
        with TieredCache.from_config(file, name=name) as cache:
            assert cache.config()["tiers"]
            for view in cache.views.values():
                assert view.codec is not None


def test_there_are_examples():
    assert len(EXAMPLES) == 3
