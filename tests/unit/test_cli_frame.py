"""What all commands have in common: flags, exit codes, messages, and what is imported for them."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import termios
import warnings
from array import array
from functools import partial
from time import monotonic, sleep

import click
import pytest
import pythons
from rights import obeying_rights
from shell import COMMAND, run, spawn

from tiercache.cli import _app, _output
from tiercache.cli._app import COMMANDS, command_line
from tiercache.cli._context import shared
from tiercache.cli._output import Column, age, printable, weight

DISK = """
[[tiers]]
type = "memory"
[[tiers]]
type = "disk"
directory = "cache"
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(DISK)
    return path


def commands():
    """Each command that users see, with those inside groups."""
    context = click.Context(command_line)
    for name in COMMANDS:
        found = command_line.get_command(context, name)
        yield name, found
        if isinstance(found, click.Group):
            yield from ((f"{name} {inner}", found.commands[inner]) for inner in found.commands)


def test_help_says_of_each_command_what_it_says_of_itself():
    shown = run("--help")
    assert shown.code == 0
    for name, (_, line) in COMMANDS.items():
        found = command_line.get_command(click.Context(command_line), name)
        assert found.help.splitlines()[0] == line
        assert re.search(rf"^  {name} +\S", shown.out, re.MULTILINE)


def test_every_command_has_the_shared_flags_and_its_help():
    flags = {flag for option in shared() for flag in option.opts}
    assert flags == {"-c", "--config", "--cache", "--debug"}
    for name, found in commands():
        assert flags <= {flag for option in found.params for flag in option.opts}, name
        assert found.help, name


def test_help_imports_little():
    code = (
        "import sys; from tiercache.cli import main; main(['--help']); "
        "heavy = {'rich', 'pydantic', 'sqlalchemy', 'redis', 'diskcache', 'numpy'} & set(sys.modules);"
        "commands = [name for name in sys.modules if name.startswith('tiercache.cli.')];"
        "print(heavy, sorted(commands))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shared_parts = [f"tiercache.cli._{name}" for name in ("app", "context", "lasting", "output")]
    assert done.stdout.splitlines()[-1] == f"set() {shared_parts}"


def test_a_configuration_that_cannot_be_read(config, monkeypatch):
    """As -c, as the FILE of a command, and as a variable has it: told as ours, and exit code 1."""
    folder = config.parent
    closed, binary = folder / "closed.toml", folder / "binary.toml"
    closed.write_text(DISK)
    closed.chmod(0)
    binary.write_bytes(b"\x7fELF\x02\x01\x01\xff\xfe")
    for path, told in (
        (folder, f"is a directory; name the file in it, such as {config}"),
        (closed, "cannot be read by this user; give it the right to, or name another"),
        (binary, "is not UTF-8 text (byte 7)"),
        (folder / "none.toml", "there is no such file"),
        (config / "below.toml", "cannot be read (Not a directory)"),
    ):
        for arguments in (["check", path], ["check", "-c", path], ["get", "key", "-c", path]):
            done = obeying_rights(partial(run, *arguments))
            assert (done.code, done.out) == (1, "")
            assert done.err == f"tiercache: {path}: {told}\n"
        monkeypatch.setenv("TIERCACHE_CONFIG", str(path))
        done = obeying_rights(partial(run, "get", "key"))
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"tiercache: {path}: ")
        assert "Errno" not in done.err


def test_the_flags_stand_before_or_after_the_name(config):
    assert run("-c", config, "set", "key", "value").code == 0
    assert run("get", "key", "--config", config).out == "value"
    elsewhere = config.with_name("other.toml")
    assert run("-c", elsewhere, "get", "key", "-c", config).out == "value"  # the later one counts


def test_one_of_several_caches(tmp_path):
    path = tmp_path / "caches.toml"
    one = '[[caches.{0}.tiers]]\ntype = "disk"\ndirectory = "{0}"\n'
    path.write_text(one.format("users") + one.format("pages"))
    assert run("-c", path, "--cache", "users", "set", "key", "of users").code == 0
    assert run("get", "key", "--cache", "users", "-c", path).out == "of users"
    assert run("get", "key", "--cache", "pages", "-c", path).code == 1
    done = run("get", "key", "-c", path)
    assert done.code == 1
    assert done.err.endswith('has several caches; say which by --cache NAME: "users", "pages"\n')


def test_the_configuration_is_found(config, monkeypatch):
    (config.parent / "deep" / "down").mkdir(parents=True)
    monkeypatch.delenv("TIERCACHE_CONFIG", raising=False)
    monkeypatch.chdir(config.parent / "deep" / "down")
    assert run("set", "key", "value").code == 0
    monkeypatch.chdir("/")
    monkeypatch.setenv("TIERCACHE_CONFIG", str(config))
    assert run("get", "key").out == "value"


@pytest.mark.parametrize(
    "command", [["get", "k"], ["set", "k", "v"], ["delete", "k"], ["keys"], ["inspect", "k"]]
)
def test_what_is_wrong_with_a_file_is_a_line_or_two_and_exit_code_1(tmp_path, command):
    done = run(*command, "-c", tmp_path / "nowhere.toml")
    assert (done.code, done.out) == (1, "")
    assert re.fullmatch(r"tiercache: .*nowhere.toml: there is no such file\n", done.err)

    wrong = tmp_path / "wrong.toml"
    wrong.write_text(
        'tttl = 1\n[[tiers]]\ntype = "disc"\n[[tiers]]\ntype = "redis"\nurl = "redis://u:sesame@h"\nx = 1'
    )
    done = run(*command, "-c", wrong)
    assert (done.code, done.out) == (1, "")
    assert done.err.count("\n") == 2
    assert "problems, the first of them at tttl: is not known" in done.err
    assert "`tiercache check`" in done.err
    assert "sesame" not in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["get"], "Missing argument 'KEY'"),
        (["get", "k", "--nonsense"], "No such option"),
        (["set", "k", "v", "--ttl", "soon"], "'soon' is no duration"),
        (["set", "k", "v", "--ttl", "0"], "'0' is not allowed; give more than zero"),
        (["purge", "--older-than", "0s"], "'0s' is not allowed; give more than zero"),
        (["keys", "--limit", "-1"], "'-1' is not a whole number above zero"),
        (["purge"], "--older-than"),
        (["purge", "--idle", "never"], "'never' is no duration"),
        (["clear"], "--yes"),
    ],
)  # fmt: skip
def test_a_wrong_flag_is_two_lines_and_exit_code_2(config, arguments, says):
    done = run("-c", config, *arguments)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert done.err.startswith(f"tiercache {arguments[0]}: ")
    assert done.err.endswith(f"Try 'tiercache {arguments[0]} --help'.\n")
    assert done.err.count("\n") == 2


@pytest.mark.parametrize(
    ("name", "hint"),
    [("chek", " Did you mean 'check'?"), ("Export", " Did you mean 'export'?"), ("xyzzy", "")],
)
def test_a_command_that_there_is_not_is_told_with_the_one_that_is_meant(name, hint):
    done = run(name)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"tiercache: No such command {name!r}.{hint}\nTry 'tiercache --help'.\n"


def test_debug_shows_where_an_error_comes_from(tmp_path):
    done = run("--debug", "get", "k", "-c", tmp_path / "nowhere.toml")
    assert done.code == 1
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith("tiercache: ")
    assert "Traceback" not in run("get", "k", "-c", tmp_path / "nowhere.toml").err


@pytest.mark.parametrize("raised", [RuntimeError("first\nsecond"), AssertionError()])
def test_a_defect_of_ours_is_one_line_too(config, monkeypatch, raised):
    def fail(*_arguments):
        raise raised

    monkeypatch.setattr("tiercache.cli.keys.open_cache", fail)
    done = run("keys", "-c", config)
    assert done.code == 1
    assert re.fullmatch(rf"tiercache: {type(raised).__name__}: (first)?; --debug shows .*\n", done.err)
    assert "in fail" in run("keys", "-c", config, "--debug").err


def test_nobody_who_reads_stdout_any_more_is_no_error(config):
    # More than the buffers of Python and of a pipe hold, so that the writer meets the closed end.
    assert spawn("-c", config, "set", "key", stdin=b"x" * 1_000_000).code == 0
    process = pythons.Popen(
        [*COMMAND, "-c", str(config), "get", "key"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout.read(1) == b"x"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_stream_that_is_closed_is_told(config):
    """As `>&-` and `<&-` have it in a shell: no database of ours gets its number."""
    command = f"{' '.join(COMMAND)} -c {config}"
    line = f"{command} set key value >&- && {command} keys >&-; echo $? && {command} set other <&-"
    done = pythons.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "1\n")
    assert done.stderr == "tiercache: stdout is closed\ntiercache: stdin is closed\n"
    assert run("-c", config, "keys").out == "key\n"


def test_ctrl_c_is_exit_code_130_and_one_line(config):
    process = pythons.Popen(
        [*COMMAND, "-c", str(config), "--debug", "set", "key"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        process.stdin.write(b"part")
        process.stdin.flush()
        _until_all_is_read(process.stdin)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, b"")
    assert err == b"tiercache: interrupted\n"
    assert run("-c", config, "get", "key").code == 1  # half a value was not stored


def test_ctrl_c_before_all_is_imported_is_no_traceback_either():
    interrupted = """if True:
        import signal, sys
        class Finder:
            def find_spec(name, path, target=None):
                if name == "tiercache.chain":
                    signal.raise_signal(signal.SIGINT)
        sys.meta_path.insert(0, Finder)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background it is ignored
        from tiercache.cli import main
        sys.exit(main(["keys"]))
    """
    done = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "tiercache: interrupted\n")


def _until_all_is_read(pipe):
    """Until the process has taken what was written, and so waits for more."""
    end = monotonic() + 60
    while monotonic() < end:
        unread = array("i", [0])
        fcntl.ioctl(pipe, termios.FIONREAD, unread)
        if not unread[0]:
            return
        sleep(0.01)
    pytest.fail("it never read its stdin")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_and_flags(shell):
    source = spawn(_TIERCACHE_COMPLETE=f"{shell}_source")
    assert source.code == 0
    assert "_TIERCACHE_COMPLETE" in source.out


def test_completion_knows_the_commands():
    done = spawn(_TIERCACHE_COMPLETE="bash_complete", COMP_WORDS="tiercache pu", COMP_CWORD="1")
    assert done.out == "plain,purge\n"


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("tiercache -c caches.toml get --cache u", "plain,users\n"),
        ("tiercache get -c caches.toml --cache ", "plain,users\nplain,pages\n"),
        ("tiercache get -c broken.toml --cache u", "\n"),
        ("tiercache get -c nowhere.toml --cache u", "\n"),
    ],
)
def test_completion_knows_the_caches_of_the_configuration(tmp_path, monkeypatch, words, completed):
    one = '[[caches.{0}.tiers]]\ntype = "disk"\ndirectory = "{0}"\n'
    (tmp_path / "caches.toml").write_text(one.format("users") + one.format("pages"))
    (tmp_path / "broken.toml").write_text("[caches.users")
    monkeypatch.chdir(tmp_path)
    place = str(len(words.split(" ")) - 1)
    done = spawn(_TIERCACHE_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=place)
    assert (done.out, done.err) == (completed, "")


# -- how things are shown --------------------------------------------------------------------------


def test_a_table_in_a_pipe_is_aligned(capsys):
    rows = [["memory", "3"], [_output.Styled("disk", "red"), "12,000"]]
    _output.show_table([Column("tier"), Column("hits", figures=True)], rows)
    assert capsys.readouterr().out == "tier      hits\nmemory       3\ndisk    12,000\n"


@pytest.mark.parametrize(
    ("key", "shown"),
    [("plain", "plain"), ("ünï", "ünï"), ("a\nb\x1b[31m", "a\\nb\\x1b[31m"), ("\ud800", "\\ud800"), ("", "")],
)
def test_keys_steer_no_terminal(key, shown):
    assert printable(key) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, "-"), (-3, "0s"), (0.4, "0s"), (59.6, "1m"), (61, "1m 1s"), (3600, "1h"), (90061, "1d 1h")],
)
def test_ages(seconds, shown):
    assert age(seconds) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_weights(size, shown):
    assert weight(size) == shown


def test_a_warning_is_told_as_errors_are(config, monkeypatch):
    def warn(*_arguments):
        warnings.warn("the directory is\nelsewhere", RuntimeWarning, stacklevel=1)
        raise _app.Failed("it ends here")

    monkeypatch.setattr("tiercache.cli.keys.open_cache", warn)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = run("keys", "-c", config)
    assert done.err == "tiercache: the directory is\nelsewhere\ntiercache: it ends here\n"
