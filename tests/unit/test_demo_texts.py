"""The demo's text: where it comes from and how it is cut."""

from __future__ import annotations

import os

import pytest

from tiercache.cli._texts import CHARACTERS, Chunk, chunked, python_documentation, text_files
from tiercache.errors import ConfigError


def test_pythons_own_documentation_is_plenty():
    chunks = chunked(python_documentation())
    assert len(chunks) > 800
    assert {"assert", "with"} <= {chunk.topic for chunk in chunks}


def test_a_chunk_is_as_many_whole_lines_as_fit():
    lines = [f"{number:02} " + "x" * 96 for number in range(12)]
    chunks = chunked({"doc": "\n".join(lines)})
    assert [chunk.text for chunk in chunks] == [
        "\n".join(lines[:5]),
        "\n".join(lines[5:10]),
        "\n".join(lines[10:]),
    ]
    assert all(len(chunk.text) <= CHARACTERS for chunk in chunks)


def test_a_line_that_does_not_fit_is_cut_and_nothing_is_lost():
    line = "".join(chr(0x4E00 + number) for number in range(1234))
    chunks = chunked({"doc": line})
    assert [len(chunk.text) for chunk in chunks] == [500, 500, 234]
    assert "".join(chunk.text for chunk in chunks) == line


def test_the_same_text_is_one_chunk_and_blank_text_none():
    assert chunked({"a": "same\n", "b": "  same", "c": "\n \n", "d": "other"}) == [
        Chunk("a", "same"),
        Chunk("d", "other"),
    ]


def test_a_limit_takes_the_first():
    assert chunked({"a": "one", "b": "two", "c": "three"}, 2) == [Chunk("a", "one"), Chunk("b", "two")]


def test_text_files_are_named_by_their_path_and_hidden_ones_left_out(tmp_path):
    for name in ("b.md", "a/x.RST", "c.txt", "d.py", ".git/e.md", "a/.hidden.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of {name}")
    (tmp_path / "folder.md").mkdir()
    assert text_files(tmp_path) == {
        "a/x.RST": "text of a/x.RST",
        "b.md": "text of b.md",
        "c.txt": "text of c.txt",
    }


def test_bytes_that_are_no_utf8_do_not_stop_the_demo(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("a name that no text can hold")
    documents = text_files(tmp_path)
    assert documents["a.txt"] == "caf\ufffd"
    assert documents["caf\ufffd.txt"] == "a name that no text can hold"


@pytest.mark.parametrize("content", [None, " \n"])
def test_a_folder_without_text_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "a.txt").write_text(content)
    with pytest.raises(ConfigError, match=r"no text in .*\.txt, \.md, \.rst"):
        text_files(tmp_path)
