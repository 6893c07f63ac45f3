"""The tables of ``docs/explanation/comparison.md``, from what the last run found. Needs none of the peers."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.comparison.driver import PROJECT
from benchmarks.comparison.groups import GROUPS, Group
from benchmarks.comparison.peers import PEERS

__all__ = ["NOT_APPLICABLE", "PAGE", "RESULTS", "rendered", "write"]

PAGE = PROJECT / "docs" / "explanation" / "comparison.md"
RESULTS = PAGE.with_suffix(".json")
#: What a cell says where the question has no sense.
NOT_APPLICABLE = "-"
END = "<!-- to here -->"


def _start(name: str) -> str:
    return f"<!-- from here on written by `python -m benchmarks.comparison --write`: {name} -->"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _who(results: dict[str, Any]) -> str:
    """Whom the tables compare, in which version, and how each was set up."""
    lines = [_row("", "version", "licence", "needs", "set up as"), _row(*["---"] * 5)]
    for name, peer in PEERS.items():
        package = results["packages"][name]
        needs = "-" if package["needs"] is None else str(package["needs"])
        told = name if peer.distribution in (name, "python") else f"{name} ({peer.distribution})"
        lines.append(_row(told, results["versions"][name], package["licence"], needs, peer.how))
    beside = ", ".join(f"{name} {told}" for name, told in sorted(results["beside"].items()))
    return "\n".join([*lines, "", f"Run on {results['system']}, with {beside}."])


def _named(name: str, group: Group, results: dict[str, Any]) -> str:
    """The name; with its version, where the table of all has none of it."""
    return name if name in PEERS else f"{name} ({group.distributions[name]} {results['versions'][name]})"


def _table(group: Group, results: dict[str, Any]) -> str:
    answers = results["answers"][group.name]
    names = [_named(name, group, results) for name in group.peers]
    lines = [_row("", *names, "run it as"), _row(*["---"] * (len(names) + 2))]
    for claim in group.claims:
        cells = [answers[claim.name][name] for name in group.peers]
        lines.append(_row(claim.question, *cells, f"`{claim.name}`"))
    return "\n".join(lines)


def rendered(text: str, results: dict[str, Any]) -> str:
    """The page with its tables as ``results`` have them."""
    tables = {"who": _who(results), **{group.name: _table(group, results) for group in GROUPS}}
    for name, table in tables.items():
        start = re.escape(_start(name))
        text, count = re.subn(
            rf"{start}.*?{re.escape(END)}",
            lambda _found, name=name, table=table: f"{_start(name)}\n\n{table}\n\n{END}",
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"{PAGE.name} has {count} places for the table {name!r}")
    return text


def write(results: dict[str, Any]) -> None:
    PAGE.write_text(rendered(PAGE.read_text(), results))
