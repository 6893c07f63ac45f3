"""What the Makefile does with a chosen interpreter, without installing anything."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[2] / "Makefile"

pytestmark = pytest.mark.skipif(
    shutil.which("make") is None or not MAKEFILE.exists(), reason="needs make and a checkout"
)


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make in ``folder``, which has the Makefile and an old, empty pyproject.toml."""
    shutil.copy(MAKEFILE, folder)
    (folder / "pyproject.toml").touch()
    os.utime(folder / "pyproject.toml", (0, 0))
    # What a `make test` around this test hands down is not meant for it.
    settings = {"PYTHON", "ARGS", "TRACES", "ROUNDS", "SECONDS", "SCALE", "ACCESSES", "CHAIN_ACCESSES"}
    handed_down = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", *settings}
    environment = {name: value for name, value in os.environ.items() if name not in handed_down}
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def interpreter(folder: Path, says: str) -> Path:
    """A program that answers as an interpreter of the version ``says`` would."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\necho {says}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("chosen", "environment"),
    [
        ("", ".venv-test"),
        ("python3.13", ".venv-test-python3.13"),
        ("/opt/x/bin/python3.12", ".venv-test--opt-x-bin-python3.12"),
        ("/opt/y/bin/python3.12", ".venv-test--opt-y-bin-python3.12"),
        ("../a b/python", ".venv-test-..-a-b-python"),
    ],
)
def test_each_chosen_interpreter_has_its_own_environment(
    tmp_path: Path, chosen: str, environment: str
) -> None:
    (tmp_path / ".venv-test").mkdir()
    (tmp_path / ".venv-test" / ".installed").touch()
    shown = make(tmp_path, "-n", "test", f"PYTHON={chosen}")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.rstrip().endswith(f"{environment}/bin/python -m pytest -n 3 --dist worksteal")
    assert (f"{environment}/bin/python -m pip install" in shown.stdout) == bool(chosen)
    if chosen:
        assert "-e '.[test]'" in shown.stdout


def test_help_lists_each_target(tmp_path: Path) -> None:
    listed = re.findall(r"^make ([a-z-]+)\t\S", make(tmp_path, "help").stdout, re.MULTILINE)
    (targets,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE.read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(targets.split())


def test_the_benchmarks_have_an_environment_of_their_own_and_end_with_the_report(tmp_path: Path) -> None:
    for target, file in (("bench", "run"), ("bench-quick", "quick")):
        shown = make(tmp_path, "-n", target, "ARGS=-k disk", "TRACES=a.trace").stdout
        assert "-e '.[bench]'" in shown
        running = shown.partition(".venv-bench/bin/python -m pytest benchmarks ")[2]
        run, _, report = running.partition("-m benchmarks.report")
        assert f"--benchmark-json .benchmarks/{file}.json -k disk" in run
        assert f".benchmarks/{file}.json" in report
        assert f"--command 'make {target}" in report
        for replayed in ("hit-ratio", "hit-ratio-chain"):
            assert (f" a.trace > .benchmarks/{replayed}.json" in run) == (target == "bench")
            assert (f".benchmarks/{replayed}.json" in report) == (target == "bench")


def test_the_report_is_told_what_was_typed(tmp_path: Path) -> None:
    for words in ([], ["SECONDS=1"], ["TRACES=a/*.gz b.xz", "ARGS=-k 'disk or sql'"]):
        shown = make(tmp_path, "-n", "bench", *words).stdout
        (told,) = shlex.split(shown.partition("--command ")[2])
        named = (word.replace("=", '="', 1) + '"' for word in words)
        assert told == " ".join(("make bench", *named))


def test_an_unknown_interpreter_is_named(tmp_path: Path) -> None:
    done = make(tmp_path, "test", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert "no-such-python was not found; name one" in done.stderr


def test_one_that_is_too_old_is_named_with_its_version(tmp_path: Path) -> None:
    old = interpreter(tmp_path, "3.10")
    done = make(tmp_path, "test", f"PYTHON={old}")
    assert done.returncode != 0
    assert f"{old} is 3.10; name one" in done.stderr


def test_one_that_does_not_run_is_named(tmp_path: Path) -> None:
    broken = interpreter(tmp_path, "x; exit 1")
    done = make(tmp_path, "demo", f"PYTHON={broken}")
    assert done.returncode != 0
    assert f"{broken} does not run; name one" in done.stderr


def test_who_waits_for_an_environment_is_told_so(tmp_path: Path) -> None:
    python = interpreter(tmp_path, "3.12")
    for target in ("demo", "test", "docs"):
        shown = make(tmp_path, target, f"PYTHON={python}").stdout
        assert re.search(
            rf"^Making \.venv-{target}-.*\(3\.12\): .* one to five minutes$", shown, re.MULTILINE
        )


def test_the_site_is_built_with_what_its_extra_brings(tmp_path: Path) -> None:
    for target, command in (("docs", "-m website build"), ("docs-serve", "-m zensical serve")):
        shown = make(tmp_path, "-n", target).stdout
        assert "-e '.[docs]'" in shown
        assert shown.rstrip().endswith(f".venv-docs/bin/python {command}".rstrip())
