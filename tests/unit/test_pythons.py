"""A process that is forked for a test is as one that is started: what it is given, does and ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
import pythons

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are started")


@pytest.mark.parametrize(
    "words",
    [
        (
            "-c",
            "import os, sys; print(sys.argv, os.getcwd(), sys.path[0], input(), os.getppid())",
            "a",
        ),
        ("-c", "import os; print(*sorted(os.environ.items()), sep='\\n')"),
        ("-c", "import sys; print(__name__, [sys.stdout.encoding, sys.stderr.errors, sys.stdout.isatty()])"),
        ("-c", "raise SystemExit(3)"),
        ("-c", "raise SystemExit('told')"),
        (
            "-c",
            "import atexit, threading; atexit.register(print, 1); threading.Timer(0, print, [2]).start()",
        ),
        ("-c", "import multiprocessing as m; p = m.Process(target=print, args=[1]); p.start(); p.join()"),
        ("program.py", "a", "-W", "error"),
        ("-m", "program", "a"),
        ("-m", "tiercache", "no command"),
    ],
    ids=lambda words: words[1][:30],
)
def test_it_is_given_and_gives_back_the_same(tmp_path, words):
    (tmp_path / "program.py").write_text("import sys; print(__name__, __file__, sys.argv, sys.path[0])")
    command = [sys.executable, *words]
    forked, started = (
        start(
            command, cwd=tmp_path, env=os.environ, input="given", capture_output=True, text=True, check=False
        )
        for start in (pythons.run, subprocess.run)
    )
    assert (forked.returncode, forked.stdout, forked.stderr) == (
        started.returncode,
        started.stdout,
        started.stderr,
    )


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("-W", "error", "-c", "import warnings; warnings.warn('told')"), 1, "UserWarning: told"),
        (("-c", "1 / 0"), 1, "ZeroDivisionError: division by zero"),
        (("-c", "raise KeyboardInterrupt"), -signal.SIGINT, "KeyboardInterrupt"),
        (("-c", "import os; os.kill(os.getpid(), 9)"), -signal.SIGKILL, ""),
        (("-c", "import os; os._exit(7)"), 7, ""),
    ],
    ids=lambda value: str(value)[-20:],
)
def test_it_ends_the_same(words, code, told):
    for start in (pythons.run, subprocess.run):
        done = start([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert done.stderr.splitlines()[-1:] == ([told] if told else [])


def test_it_has_forgotten_nothing_and_kept_nothing_of_who_asked(monkeypatch):
    monkeypatch.setenv("GIVEN", "1")
    monkeypatch.delenv("HOME", raising=False)
    code = "import os; print(os.environ['GIVEN'], 'HOME' in os.environ, len(os.listdir('/proc/self/fd')))"
    done = pythons.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "False", "4"], "three streams, and the folder that is listed"


def test_one_that_is_asked_for_what_a_fork_cannot_give_is_started():
    code = "import sys; print('sqlalchemy' in sys.modules)"
    for special in (
        {"env": os.environ | {"PYTHONHASHSEED": "1"}},
        {"start_new_session": True},
        {"umask": 0o77},
    ):
        done = pythons.run([sys.executable, "-c", code], capture_output=True, text=True, **special)
        assert done.stdout == "False\n"
    assert pythons.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "True\n"
