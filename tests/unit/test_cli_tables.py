"""Tables on terminals of any width: no cell is lost, and no word broken that a line has room for."""

from __future__ import annotations

import io

from rich.console import Console
from selections import together
from shell import in_a_terminal

from tiercache.cli import bench, check, inspection, stats
from tiercache.cli._output import Styled, laid_out

#: A row of each, with the longest cells that are usual.
TABLES = {
    "check": (
        check._COLUMNS,
        ["memory", Styled("in memory", "dim"), *[""] * 8],
        [
            *("disk", Styled("fine", "green"), "SQLite 3.45.1", "read, list, write, delete", "20 s"),
            *("18.20 ms", "0.05 ms", "0.61 ms", "+0.1 s", "53.0 GiB"),
        ],
    ),
    "inspect": (
        inspection._COLUMNS,
        ["memory", Styled("memory is each process's own", "dim"), "", "", "", ""],
        ["redis", Styled("it failed: TierTimeout: redis did not answer within 0.5 s", "red"), *[""] * 4],
        ["chain/disk", "deleted since", "512 B", "23h 59m", "29d 23h", "zstd-json"],
    ),
    "bench": (bench._COLUMNS, ["memory", "6,000 B", "mget", "100", "315.4 µs", "3.72 ms", "2,400,516"]),
    "stats": (
        stats._COLUMNS,
        [Styled("471113 sessions, running, 2h 10m ago", "green"), "15,210", "1,204", "92.7%", "1,204"]
        + [""] * 4,
        ["  memory", "12,008", "4,406", "73.2%", "", "1,204", "0", Styled("12", "red"), "3"],
    ),
}


def shown(name, width):
    """What a terminal of that width shows."""
    columns, *rows = TABLES[name]
    terminal = Console(width=width, file=io.StringIO())
    terminal.print(laid_out(columns, rows, width))
    return terminal.file.getvalue()


@together("width", [30, 40, 50, 80, 100, 200])
@together("name", TABLES)
def test_nothing_is_lost_and_no_word_broken(name, width):
    text = shown(name, width)
    assert max(map(len, text.splitlines())) <= width
    words = set(text.replace(":", " ").split())
    columns, *rows = TABLES[name]
    for row in rows:
        for column, cell in zip(columns, row, strict=True):
            told = cell.text if isinstance(cell, Styled) else cell
            assert words >= set(told.replace(":", " ").split()), told
            assert not told or words >= set(column.heading.split()) or column is columns[0]


def test_what_fits_is_a_table():
    heading, _, memory, disk = shown("check", 120).splitlines()
    assert heading.split()[:4] == ["tier", "state", "version", "rights"]
    assert memory.split() == ["memory", "in", "memory"]
    assert "read, list, write, delete      20 s" in disk


def test_what_does_not_is_a_block_for_each_row():
    assert [line.rstrip() for line in shown("check", 50).splitlines()] == [
        "memory",
        "  state: in memory",
        "disk",
        "  state: fine  version: SQLite 3.45.1",
        "  rights: read, list, write, delete",
        "  deadline: 20 s  connect: 18.20 ms  read: 0.05 ms",
        "  write: 0.61 ms  clock: +0.1 s  room: 53.0 GiB",
    ]


def test_one_long_text_is_wrapped_between_its_words():
    lines = shown("inspect", 90).splitlines()
    assert lines[0].split() == ["tier", "holds", "it", "size", "age", "left", "codec"]
    assert len(lines) > len(TABLES["inspect"]) + 1


def test_a_real_terminal_of_fifty_columns(tmp_path):
    config = tmp_path / "tiercache.toml"
    config.write_text('[[tiers]]\ntype = "disk"\npath = "cache"\ndeadline = "20s"\n')
    code, text = in_a_terminal("-c", config, "check", "--connect", COLUMNS="50", NO_COLOR="1")
    assert code == 0
    assert "read, list, write, delete" in text
