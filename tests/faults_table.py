"""Writes down what faults cost: the table in ``docs/explanation/faults.md``.

A test in ``tests/faults/`` calls ``told(fault, figure)`` with what it measured; ``make faults`` runs them
all, the long ones too, and puts the rows between the page's two marks. A row whose tests did not all pass
says so.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Told = Callable[[str, str], None]

START = "<!-- from here on written by `make faults` -->"
END = "<!-- to here -->"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-table", help="the page whose table is to be written anew")


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Told:
    """``told(fault, figure)``: a row of the table, or one more figure in it."""

    def tell(fault: str, figure: str) -> None:
        record_property("fault", (fault, figure))

    return tell


@pytest.fixture
def breaker(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options of a tier: a short pause of its breaker, so that tests are; none where the table is written."""
    return {} if request.config.getoption("--faults-table") else {"breaker_pause": 0.1}


class Table:
    """The rows that the tests tell, in the order in which they came."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.rows: dict[str, list[str]] = {}
        self.tests: dict[str, set[str]] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        told = [value for name, value in report.user_properties if name == "fault"]
        if report.when == "call" or report.failed:
            for fault, figure in told:
                figures = self.rows.setdefault(fault, [])
                if figure not in figures:
                    figures.append(figure)
                self.tests.setdefault(fault, set()).add(report.nodeid.split("[")[0])
                if report.failed:
                    self.failed.add(fault)

    @pytest.hookimpl
    def pytest_sessionfinish(self) -> None:
        if self.rows:
            text = self.page.read_text()
            before, rest = text.split(START)
            after = rest.split(END)[1]
            self.page.write_text(f"{before}{START}\n\n{self.table()}\n\n{END}{after}")

    def table(self) -> str:
        lines = ["| fault | what came of it | shown by |", "| --- | --- | --- |"]
        for fault in sorted(self.rows):
            figures = "; ".join(self.rows[fault])
            if fault in self.failed:
                figures = f"**failed**: {figures}"
            tests = ", ".join(f"`{_short(name)}`" for name in sorted(self.tests[fault]))
            lines.append(f"| {fault} | {figures} | {tests} |")
        return "\n".join([*lines, "", _where()])


def _short(name: str) -> str:
    return re.sub(r"^tests/faults/", "", name)


def _where() -> str:
    system = f"{platform.system()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"Measured on {system}, SQLite {sqlite3.sqlite_version}."


def pytest_configure(config: pytest.Config) -> None:
    page: Any = config.getoption("--faults-table")
    if page and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Table(Path(page)), "faults-table-writer")


def seconds(figure: float) -> str:
    """A time in seconds, for people."""
    if figure < 1e-3:
        return f"{figure * 1e6:.0f} µs"
    return f"{figure * 1e3:.0f} ms" if figure < 1 else f"{figure:.1f} s"
