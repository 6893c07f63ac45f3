"""Ctrl-C in a command that waits for a tier: the command ends, however long the tier would have it wait."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import pythons
from shell import run

from tiercache import register_tier
from tiercache.cli._interrupts import ending_soon
from tiercache.testing import DictTier

#: A tier that hangs as one does whose deadline is an hour: what interrupts it, it is asked again to tidy up.
PROGRAM = """
import sys, threading
from tiercache import register_tier
from tiercache.cli import main
from tiercache.testing import DictTier

class Hanging(DictTier):
    def mget(self, keys):
        hang()
    def mset(self, entries):
        hang()
    def mdelete(self, keys):
        hang()

def hang():
    print("it hangs", flush=True)
    while True:
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass

register_tier("hanging", Hanging)
sys.exit(main())
"""


@pytest.mark.parametrize(
    "arguments", [("set", "key", "value"), ("get", "key"), ("warm", "lines")], ids=" ".join
)
def test_a_tier_that_hangs_holds_up_no_ctrl_c(tmp_path, arguments):
    config = tmp_path / "tiercache.toml"
    config.write_text('[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "hanging"\n')
    (tmp_path / "lines").write_text('{"key": "key", "value": "value"}\n')
    process = pythons.Popen(
        [sys.executable, "-c", PROGRAM, "-c", str(config), *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout.readline() == b"it hangs\n"
        process.send_signal(signal.SIGINT)
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, b"tiercache: interrupted\n")


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize(
    "arguments",
    [
        *(("set", "key", "value"), ("delete", "key"), ("get", "key"), ("clear", "--yes")),
        *(("purge", "--expired"), ("warm", "-"), ("bench", "--seconds", "0.001"), ("import", "-")),
        *(("migrate", f"langchain-{kind}", "nowhere") for kind in ("files", "redis", "sqlite-llm")),
        ("migrate", "langchain-sql", "nowhere", "--store-namespace", "docs"),
    ],
    ids=" ".join,
)
def test_what_writes_is_ended_soon_from_its_first_look_at_a_tier_on(tmp_path, monkeypatch, arguments):
    """Whatever of it hangs then: see above."""
    seen = []

    class Watching(DictTier):
        def __init__(self):
            super().__init__()
            seen.append(signal.getsignal(signal.SIGINT))

    register_tier("watching", Watching)
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "tiercache.toml"
    config.write_text('[[tiers]]\ntype = "watching"\n')
    run(*arguments)
    assert seen
    assert signal.default_int_handler not in seen


def test_a_command_that_is_over_leaves_ctrl_c_as_it_was():
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@ending_soon()
def interrupted():
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    signal.raise_signal(signal.SIGINT)
