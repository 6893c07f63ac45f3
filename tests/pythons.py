"""Python processes that start in milliseconds: forked from one that has imported what most of them import.

`Popen` and `run` are those of `subprocess`, and so is all that they give back. A command that begins with
this interpreter, with variables for it that are as they were, is run by a fork; any other is started as ever.
The process that forks has one thread, and has used nothing of what it imported. On Linux alone, where an
orphan can be adopted: the new process is a child of the one that asks for it, but has the limits and the
rights of the one that forks. Programs that look at what they import are for `subprocess`.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import json
import os
import runpy
import socket
import subprocess
import sys
import threading
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["Popen", "run"]

#: What the process that forks imports.
_IMPORTED = (
    "asyncio",
    "concurrent.futures.thread",
    "multiprocessing.popen_spawn_posix",
    "pydantic",
    "redis.asyncio",
    "sqlalchemy.ext.asyncio",
    "tiercache.cli._app",
    "tiercache.config._build",
    "tiercache.testing",
    "tiercache.tiers.disk",
    "tiercache.tiers.memory",
    "tiercache.tiers.redis",
    "tiercache.tiers.sql",
)
#: Variables that an interpreter, its loader or its libraries look at when they begin.
_LOOKED_AT = ("LANG", "LC_", "LD_", "PYTHON", "TZ")
_AT_FIRST = dict(os.environ)
#: `prctl`: orphans of this process's descendants become its children.
_ADOPT = 36
_LINUX = sys.platform == "linux"


class _Program(NamedTuple):
    """What the interpreter is to run, in the words of its command line."""

    how: str
    what: str
    arguments: list[str]
    strict: bool


class Popen(subprocess.Popen[Any]):
    """`subprocess.Popen`, quick where it may be."""

    def _execute_child(self, args: Any, executable: Any, preexec_fn: Any, *others: Any) -> None:
        # The order is CPython's, the same since 3.11. What a fork here cannot do must be as it is by default.
        close_fds, pass_fds, cwd, env, _, _, shell, *rest = others
        pipes, special = rest[:6], rest[6:]
        program = _program(args, env)
        plain = special == [True, None, None, None, -1, False, -1]
        if program is None or not plain or executable or preexec_fn or pass_fds or not close_fds or shell:
            super()._execute_child(args, executable, preexec_fn, *others)
            return
        streams = [end if end != -1 else usual for usual, end in enumerate((pipes[0], pipes[3], pipes[5]))]
        try:
            self.pid = _server.start(program, str(cwd or Path.cwd()), env, streams)
            self._child_created = True
        finally:
            self._close_pipe_fds(*pipes)


def run(
    command: Sequence[str],
    *,
    input: Any = None,  # noqa: A002 - the name that subprocess.run has for it
    capture_output: bool = False,
    timeout: float = 60,
    check: bool = False,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """`subprocess.run`, with `Popen`."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    if input is not None:
        options["stdin"] = subprocess.PIPE
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _program(args: Any, env: Any) -> _Program | None:
    """What ``args`` ask of an interpreter, if a fork can do it."""
    if not _LINUX or isinstance(args, str | bytes | os.PathLike) or args[0] != sys.executable:
        return None
    words, strict = [os.fspath(word) for word in args[1:]], False
    if words[:2] == ["-W", "error"]:
        words, strict = words[2:], True
    how = words.pop(0) if words[:1] in (["-c"], ["-m"]) else ""
    changed = _looked_at(os.environ if env is None else env) != _looked_at(_AT_FIRST)
    if changed or not words or not (how or words[0].endswith(".py")):  # a folder, or another option
        return None
    return _Program(how, words[0], words[1:], strict)


def _looked_at(environment: Any) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_LOOKED_AT)}


class _Server:
    """This end of the process that forks, which starts when it is first asked."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._line: socket.socket | None = None

    def start(self, program: _Program, folder: str, env: Any, streams: list[int]) -> int:
        """The pid of a child of this process that runs ``program`` with those ``streams``."""
        environment = dict(os.environ if env is None else env)
        with self._asking:
            line = self._line or self._begin()
            libc = ctypes.CDLL(None)
            libc.prctl(_ADOPT, 1, 0, 0, 0)
            try:
                request = json.dumps([*program, folder, environment]).encode()
                socket.send_fds(line, [len(request).to_bytes(4)], streams)
                line.sendall(request)
                pid = int.from_bytes(line.recv(4))
            finally:
                libc.prctl(_ADOPT, 0, 0, 0, 0)
        if not pid:
            raise RuntimeError("the process that forks others is gone")
        return pid

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], env=_AT_FIRST
            )

        def end() -> None:
            ours.close()  # which ends it
            process.wait(60)

        atexit.register(end)
        self._line = ours
        return ours


_server = _Server()


# -- the process that forks ------------------------------------------------------------------------


def _serve(line: socket.socket) -> _Program | None:
    """Fork when asked to; comes back in each child, with what that is to run, and at the end."""
    while True:
        head, streams, *_ = socket.recv_fds(line, 4, 3)
        if not head:
            return None
        length = int.from_bytes(head)
        request = b""
        while len(request) < length:
            request += line.recv(length - len(request))
        *words, folder, environment = json.loads(request)
        ours, theirs = os.pipe()
        between = os.fork()
        if not between:
            child = os.fork()
            if child:
                os.write(theirs, child.to_bytes(4))
                os._exit(0)  # and so the child is adopted
            os.close(ours)
            os.close(theirs)
            line.close()
            for stream, wanted in zip(streams, range(3), strict=True):
                os.dup2(stream, wanted)
                os.close(stream)
            os.chdir(folder)
            os.environ.clear()
            os.environ.update(environment)
            return _Program(*words)
        os.waitpid(between, 0)
        line.sendall(os.read(ours, 4))
        for end in (ours, theirs, *streams):
            os.close(end)


def _become(program: _Program) -> None:
    """Run it as the interpreter would that had just begun."""
    for wanted, name in enumerate(("stdin", "stdout", "stderr")):
        raw = open(wanted, "rb" if wanted == 0 else "wb", closefd=False)  # noqa: SIM115 - as long as the process
        errors = "backslashreplace" if wanted == 2 else None
        stream = io.TextIOWrapper(
            raw, getattr(sys, name).encoding, errors, line_buffering=wanted == 2 or raw.isatty()
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    if program.strict:
        sys.warnoptions[:] = ["error"]
        warnings.resetwarnings()
        warnings.simplefilter("error")
    sys.argv = [program.how or program.what, *program.arguments]
    if program.how == "-m":
        sys.path[0] = str(Path.cwd())
        runpy.run_module(program.what, run_name="__main__", alter_sys=True)
        return
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if program.how == "-c":
        sys.path[0], name, source = "", "<string>", program.what.encode()
    else:
        file = Path(program.what).absolute()
        sys.path[0], name, source = str(file.resolve().parent), str(file), file.read_bytes()
        main.__file__ = name
    exec(compile(source, name, "exec"), main.__dict__)  # noqa: S102 - that is what the command says


if __name__ == "__main__":
    for module in _IMPORTED:
        __import__(module)
    gc.collect()
    gc.freeze()
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
