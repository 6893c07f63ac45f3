"""A second process over the same directory and the same server, which does what it is told and can be killed.

One JSON line a command, one or more back. The process that is started forks, for each chain, a child that
opens it and serves it: importing everything once is what makes killing cheap. `open_chain` is what both
ends build their chains with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pythons
from rights import obey_rights
from talking import hear, say

from tiercache import DiskTier, MemoryTier, RedisTier, SQLTier, TieredCache, WriteError
from tiercache.testing import FakeClock

__all__ = ["Chain", "SecondProcess", "hasten", "open_chain"]

#: Seconds of a call of the disk tier, and while somebody else holds its lock.
PATIENT, HASTY = 60.0, 0.05


class Chain(NamedTuple):
    """Two views of a chain, the second one nested in the first, and its tiers by name."""

    views: list[TieredCache[bytes]]
    tiers: dict[str, Any]


def open_chain(plan: dict[str, Any], clock: FakeClock, wrap: Callable[[Any], None] | None = None) -> Chain:
    """The chain that ``plan`` tells of, over what lies in its folder and behind its port."""
    tiers: dict[str, Any] = {}
    for kind in plan["kinds"]:
        if kind == "memory":
            tiers["memory"] = MemoryTier(ttl=plan["cap"], clock=clock)
        elif kind == "disk":
            tiers["disk"] = DiskTier(
                Path(plan["folder"]) / "disk",
                max_entries=plan["max_entries"],
                deadline=PATIENT,
                breaker_failures=1,
                clock=clock,
            )
        elif kind == "redis":
            tiers["server"] = RedisTier(
                f"redis://127.0.0.1:{plan['port']}/0",
                name="server",
                deadline=plan["deadline"],
                breaker_failures=1,
                clock=clock,
            )
        else:
            tiers["server"] = SQLTier(
                f"sqlite:///{plan['folder']}/server.sqlite",
                name="server",
                deadline=plan["deadline"],
                breaker_failures=1,
                clock=clock,
            )
    for tier in tiers.values():
        if wrap is not None:
            wrap(tier)
    cache = TieredCache([*tiers.values()], namespace="app", promote=plan["promote"], clock=clock)
    return Chain([cache, cache.view("nested")], tiers)


def hasten(chain: Chain, *, hasty: bool) -> None:
    """Have the disk tier wait for locks no longer than that: somebody holds them."""
    store = chain.tiers["disk"].store
    store._deadline = store._database._deadline = HASTY if hasty else PATIENT


def owes_something(chain: Chain) -> bool:
    """Whether some tier has yet to hear of something, as far as this process knows."""
    return any(tier.owed for tier in chain.views[0].stats().tiers)


class SecondProcess:
    """This end."""

    def __init__(self) -> None:
        command = [sys.executable, "-W", "error", __file__]
        self._process = pythons.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._pid: int | None = None
        self._clock: FakeClock | None = None

    @property
    def alive(self) -> bool:
        return self._pid is not None

    def begin(self, plan: dict[str, Any], clock: FakeClock) -> None:
        """Fork a process that opens the chain."""
        self._clock = clock
        self._tell(plan=plan)
        self._pid = hear(self._process)["pid"]
        self.hear()

    def tell(self, verb: str, **job: Any) -> None:
        """Begin a command, at the time that it is here."""
        assert self._clock is not None
        self._tell(verb=verb, time=self._clock.time(), monotonic=self._clock.monotonic(), **job)

    def ask(self, verb: str, **job: Any) -> dict[str, Any]:
        self.tell(verb, **job)
        return self.hear()

    def go_on(self) -> None:
        """The loader that said ``loading`` may return."""
        self._tell()

    def hear(self) -> dict[str, Any]:
        """What it says next: ``{"over": …}`` if it was killed."""
        said = hear(self._process)
        if "over" in said:
            self._pid = None
        assert "error" not in said, said["error"]
        return said

    def kill(self) -> None:
        """SIGKILL."""
        assert self._pid is not None
        os.kill(self._pid, signal.SIGKILL)
        while "over" not in hear(self._process):  # but for what it was just saying
            pass
        self._pid = None

    def end(self) -> None:
        """Close the chain, and let the process that has it end."""
        if self.alive:
            self.tell("end")
            assert self.hear() == {"over": 0}

    def close(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=60)

    def _tell(self, **job: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(job), file=self._process.stdin, flush=True)


# -- the other end ---------------------------------------------------------------------------------


def _say(**what: Any) -> None:
    say(what)


class _Server:
    """What a child does."""

    def __init__(self, plan: dict[str, Any], lines: Any) -> None:
        self.lines = lines
        self.calls_left: int | None = None
        self.clock = FakeClock(plan["start"])
        self.chain = open_chain(plan, self.clock, self.mortal)

    def mortal(self, tier: Any) -> None:
        """Have the process die at a call of ``tier`` when its time has come."""
        for verb in ("mset", "mdelete", "fill", "record"):
            if hasattr(tier, verb) and not getattr(tier, "nonblocking", False):
                setattr(tier, verb, self._counted(getattr(tier, verb)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            if self.calls_left is not None:
                if self.calls_left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                self.calls_left -= 1
            return call(*args, **options)

        return counted

    def serve(self) -> None:
        while line := self.lines.readline():
            job = json.loads(line)
            self.clock.advance(job["monotonic"] - self.clock.monotonic())
            self.clock.step_wall(job["time"] - self.clock.time())
            if job["verb"] == "end":
                self.chain.views[0].close()
                return
            self.calls_left = job.get("dies_at")
            try:
                answer = self.do(job)
            except Exception:  # noqa: BLE001 - the other end raises it
                answer = {"error": traceback.format_exc()}
            self.chain.views[0].flush()
            _say(**answer)

    def do(self, job: dict[str, Any]) -> dict[str, Any]:
        view, verb = self.chain.views[job.get("view", 0)], job["verb"]
        if verb == "hasten":
            hasten(self.chain, hasty=job["hasty"])
            return {}
        if verb == "owes":
            return {"owes": owes_something(self.chain)}
        if verb == "get":
            return {"found": _texts([view.get(key) for key in job["keys"]])}
        if verb == "mget":
            return {"found": _texts(view.mget(job["keys"]))}
        if verb == "mget_or_load":
            loaded: list[str] = []

            def load(keys: list[str]) -> list[bytes]:
                loaded.extend(keys)
                if job["hold"]:
                    _say(loading=keys)
                    self.lines.readline()
                return [job["value"].encode()] * len(keys)

            found = view.mget_or_load(job["keys"], load, ttl=job["ttl"])
            return {"found": _texts(found), "loaded": loaded}
        try:
            if verb == "mset":
                values = dict.fromkeys(job["keys"], job["value"].encode())
                return {"failed": view.mset(values, ttl=job["ttl"]).failed}
            if verb == "mdelete":
                return {"failed": view.mdelete(job["keys"]).failed}
            view.clear()
        except WriteError:
            return {"failed": None}
        return {"failed": []}


def _texts(found: list[bytes | None]) -> list[str | None]:
    return [None if value is None else value.decode("latin-1") for value in found]


def _main() -> None:
    import logging

    import tiercache._chain.journal

    logging.disable()
    tiercache._chain.journal._PAUSE = 0.0
    obey_rights()
    lines = open(0, "rb", buffering=0)  # noqa: SIM115 - as long as the process; unbuffered, for both read it
    while line := lines.readline():
        child = os.fork()
        if not child:
            code = 1
            try:
                _say(pid=os.getpid())
                server = _Server(json.loads(line)["plan"], lines)
                _say()
                server.serve()
                code = 0
            except Exception:  # noqa: BLE001 - as above
                _say(error=traceback.format_exc())
            finally:
                os._exit(code)
        _say(over=os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


if __name__ == "__main__":
    _main()
