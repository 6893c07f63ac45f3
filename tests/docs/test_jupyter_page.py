"""The page on notebooks is one: its cells run in a real kernel, and what it says of kernels is so."""

from __future__ import annotations

import os
from pathlib import Path

import nbclient
import nbformat
import pytest
from doc_snippets import ROOT, blocks

PAGE = ROOT / "docs" / "how-to" / "jupyter.md"
PAGES_CELLS = [block.text for block in blocks(PAGE, "python", "ipython")]
#: The cell with the page's function, without what it asserts for the first run.
DEFINED = next(cell for cell in PAGES_CELLS if "42" in cell).partition("\n\n\nanswer(")[0]
CACHES = """
from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec

cache = TieredCache([MemoryTier(), DiskTier("questions")], codec=JSONCodec())
"""
QUESTIONS = """
from caches import cache

@cache.cached
def answer(question):
    return {answer!r}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where a notebook runs, which is its home as well."""
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    (tmp_path / "caches.py").write_text(CACHES)
    (tmp_path / "questions.py").write_text(QUESTIONS.format(answer=42))
    return tmp_path


def run(folder: Path, *cells: str) -> list[str]:
    """What each cell prints and shows, in a kernel of their own; a cell that fails is an error."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return ["".join(_shown(output) for output in cell.outputs) for cell in notebook.cells]


def _shown(output) -> str:
    return output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"]


def test_the_page_runs_and_after_a_restart_nothing_is_paid_for_again(folder):
    for _ in range(2):
        shown = run(folder, *PAGES_CELLS)
        (table,) = (text for text in shown if "hits" in text)
        assert "memory" in table
        assert "disk" in table
        assert (folder / "paid.txt").read_text() == "why?\n"


def test_a_cell_that_changed_asks_anew_and_one_that_changed_back_does_not(folder):
    make, cell = PAGES_CELLS[0], DEFINED
    ask, changed = "print(answer('why?')['answer'])", cell.replace("42", "43")
    assert run(folder, make, cell, ask, changed, ask, cell, ask)[2::2] == ["42\n", "43\n", "42\n"]
    assert (folder / "paid.txt").read_text().count("why?") == 2
    assert run(folder, make, changed, ask)[-1] == "43\n"  # the kernel was restarted
    assert (folder / "paid.txt").read_text().count("why?") == 2


def test_a_cell_that_makes_the_cache_again_is_harmless(folder):
    make, cell, ask = PAGES_CELLS[0], DEFINED, "print(answer('why?')['answer'])"
    assert run(folder, make, cell, make, ask, cell, ask, make, "print(len(list(cache.keys())))")[-1] == "1\n"
    assert (folder / "paid.txt").read_text() == "why?\n"


def test_autoreload_takes_a_functions_change_and_the_cache_goes_on_with_what_it_has(folder):
    load = next(cell for cell in PAGES_CELLS if "autoreload" in cell)
    later = (folder / "questions.py").stat().st_mtime + 10
    change = f"""
import os
from pathlib import Path
Path("questions.py").write_text({QUESTIONS.format(answer="changed")!r})
os.utime("questions.py", ({later}, {later}))
"""
    shown = run(
        folder,
        load,
        change,
        "print(questions.answer('why?'), questions.answer('new'))",
        "questions.answer.cache_delete('why?')\nprint(questions.answer('why?'))",
    )
    assert shown[2:] == ["42 changed\n", "changed\n"]


def test_a_blocking_call_for_a_key_that_a_task_is_loading_loads_by_itself(folder):
    cells = [
        PAGES_CELLS[0],
        """
import asyncio
go, loaded = asyncio.Event(), []

async def slow(key):
    loaded.append("task")
    await go.wait()
    return 1

task = asyncio.create_task(cache.aget_or_load("k", slow))
await asyncio.sleep(0)
while not loaded:
    await asyncio.sleep(0.001)
""",
        "assert cache.get_or_load('k', lambda key: loaded.append('call') or 2) == 2",
        "go.set()\nawait task\nprint(loaded)",
    ]
    assert run(folder, *cells)[-1] == "['task', 'call']\n"
