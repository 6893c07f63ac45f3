"""Two processes over one disk tier and one server, of which tiers can be killed, revived and damaged.

The first process is this one, the second a `SecondProcess`. The server is a Valkey behind a `FaultyProxy`, or
an SQLite file; both processes know it by one name, as the journal does.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from second_process import SecondProcess, hasten, open_chain
from servers.valkey import Valkey
from waiting import until

from tiercache import WriteError
from tiercache.testing import FakeClock, FaultyProxy, Pass

KEYS = ["a", "é\ud800"]
CAP = 100.0  # seconds of memory tiers
DEADLINE = 0.15  # seconds of the server


class TwoProcesses:
    """Made once for each program; `put_away` it in the end. ``server`` is emptied for it."""

    def __init__(self, server: Valkey, second: SecondProcess) -> None:
        self.server, self.second = server, second
        self.cache: Any = None
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("tiercache._chain.journal._PAUSE", 0.0)
        self.folder = Path(tempfile.mkdtemp(prefix="tiercache-model-"))
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.proxy = FaultyProxy(("127.0.0.1", server.port))
        #: While it is there, what runs behind the callers of the first process waits for it.
        self.gate: Event | None = None
        self.files: list[int] = []
        self.lock: sqlite3.Connection | None = None  # of the disk tier
        self.server_lock: sqlite3.Connection | None = None
        self.disk_ill = self.damaged = False

    def start(self, kinds: list[str], *, promote: str, max_entries: int | None) -> None:
        self.server.flush()
        self.kinds = kinds
        self.plan = {
            "folder": str(self.folder),
            "port": self.proxy.port,
            "kinds": kinds,
            "promote": promote,
            "cap": CAP,
            "deadline": DEADLINE,
            "max_entries": max_entries,
            "start": self.clock.time(),
        }
        self.open()
        self.cache.mget(KEYS)  # makes the databases, which others have a look at
        self.open_second()

    def rights(self) -> None:
        """Back to normal: no tier is made in a directory that cannot be written."""
        with suppress(FileNotFoundError):
            (self.folder / "disk").chmod(0o700)
        self.disk_ill = self.lock is not None

    def open(self) -> None:
        self.rights()
        self.chain = open_chain(self.plan, self.clock)
        self.cache = self.chain.views[0]
        hasten(self.chain, hasty=self.lock is not None)

    def open_second(self) -> None:
        self.rights()
        self.second.begin(self.plan, self.clock)
        self.second.ask("hasten", hasty=self.lock is not None)

    # -- calls -------------------------------------------------------------------------------------

    def run(self, asynchronous: bool, view: int, method: str, *args: Any, **options: Any) -> Any:
        """A call of A."""
        target = self.chain.views[view]
        if not asynchronous:
            found = getattr(target, method)(*args, **options)
        else:

            async def call() -> Any:
                return await getattr(target, f"a{method}")(*args, **options)

            found = self.loop.run_until_complete(call())
        if self.gate is None:
            self.cache.flush()
        return found

    def write_here(self, verb: str, view: int, keys: list[str], data: bytes, life: Any, way: bool) -> Any:
        """The names of the tiers that failed; ``None`` if it raised."""
        try:
            if verb == "mset" and len(keys) == 1:
                return self.run(way, view, "set", keys[0], data, ttl=life).failed
            if verb == "mset":
                return self.run(way, view, "mset", dict.fromkeys(keys, data), ttl=life).failed
            if verb == "mdelete":
                return self.run(way, view, "mdelete", keys).failed
            self.run(way, view, "clear")
        except WriteError:
            return None
        return ()

    def load_here(
        self, view: int, keys: list[str], data: bytes, life: Any, way: bool, disturb: Callable[[], None]
    ) -> tuple[list[bytes | None], list[str]]:
        loaded: list[str] = []

        def load_many(wanted: list[str]) -> list[bytes]:
            loaded.extend(wanted)
            disturb()
            return [data] * len(wanted)

        if len(keys) > 1:
            return self.run(way, view, "mget_or_load", keys, load_many, ttl=life), loaded
        return [
            self.run(way, view, "get_or_load", keys[0], lambda key: load_many([key])[0], ttl=life)
        ], loaded

    def load_there(
        self, view: int, keys: list[str], data: str, life: Any, disturb: Callable[[], None]
    ) -> tuple[list[bytes | None], list[str]]:
        self.second.tell("mget_or_load", view=view, keys=keys, value=data, ttl=life, hold=True)
        said = self.second.hear()
        if "loading" in said:
            disturb()
            self.second.go_on()
            said = self.second.hear()
        return [None if text is None else text.encode("latin-1") for text in said["found"]], said["loaded"]

    def promotions_go_on(self) -> None:
        if self.gate is not None:
            self.gate.set()
            self.gate = None
            self.cache.flush()

    # -- faults ------------------------------------------------------------------------------------

    def server_dies(self, mode: Any) -> None:
        """Its network is as ``mode`` of the proxy says; or of a file somebody holds the lock."""
        if "redis" in self.kinds:
            self.proxy.mode = mode
        elif self.server_lock is None:
            self.server_lock = locked(self.folder / "server.sqlite", "EXCLUSIVE")

    def disk_dies(self, *, rights: bool) -> None:
        """Nobody has the right to write there (but root); or somebody holds the lock."""
        self.disk_ill = True
        if rights:
            (self.folder / "disk").chmod(0o500)
        elif self.lock is None:
            self.lock = locked(self.folder / "disk" / "cache.db", "IMMEDIATE")
            hasten(self.chain, hasty=True)
            self.second.ask("hasten", hasty=True)

    def server_is_back(self) -> None:
        self.proxy.mode = Pass()
        if self.server_lock is not None:
            self.server_lock.close()
            self.server_lock = None

    def disk_is_back(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None
            hasten(self.chain, hasty=False)
            self.second.ask("hasten", hasty=False)
        self.rights()

    def let_go(self) -> None:
        """Have the server get what was held back, and wait until it has."""
        held = [link for link in self.proxy._links if link.held]
        self.proxy.let_go()
        until(lambda: not any(self.is_moving(link) for link in held), "what was held back")
        with self.server.client() as client:
            client.ping()
            client.ping()  # by then it has served whoever was before the first

    def is_moving(self, link: Any) -> bool:
        """Whether its client is gone, and what that left behind is still on its way."""
        if link not in self.proxy._links or not isinstance(self.proxy.mode, Pass):
            return False
        with suppress(OSError, ValueError):
            return not link._client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        return False

    def drop_late(self) -> None:
        """What is still on its way gets lost."""
        for link in [link for link in self.proxy._links if link.held]:
            with self.proxy.lock:
                link.end(reset=True)

    def damage_file(self, source: random.Random, bits: int) -> None:
        """Flip so many bits of the disk tier's database; 0: its header is gone."""
        self.damaged = True
        with suppress(FileNotFoundError):
            file = self.database_file()
            size = os.fstat(file).st_size
            if not bits:
                os.pwrite(file, bytes(100), 0)
            for _ in range(bits if size else 0):
                at = source.randrange(size)
                byte = os.pread(file, 1, at)[0]
                os.pwrite(file, bytes([byte ^ 1 << source.randrange(8)]), at)

    def damage_rows(self, source: random.Random) -> None:
        """Flip a bit of each entry that the disk tier holds."""
        with closing(sqlite3.connect(self.folder / "disk" / "cache.db")) as database, database:
            for rowid, data in database.execute("SELECT rowid, value FROM Cache WHERE raw").fetchall():
                damaged = bytearray(data)
                at = source.choice([source.randrange(len(damaged)), -1])  # somewhere, or in the value
                damaged[at] ^= 1 << source.randrange(8)
                database.execute("UPDATE Cache SET value = ? WHERE rowid = ?", (bytes(damaged), rowid))

    def database_file(self) -> int:
        """It stays open as long as the chain: to close it would take SQLite's locks away, of this process."""
        self.files.append(os.open(self.folder / "disk" / "cache.db", os.O_RDWR))
        return self.files[-1]

    def put_away(self) -> None:
        if self.gate is not None:
            self.gate.set()
        for lock in (self.lock, self.server_lock):
            if lock is not None:
                lock.close()
        self.rights()
        if self.second.alive:
            self.second.kill()
        if self.cache is not None:
            self.loop.run_until_complete(self.cache.aclose())
        for file in self.files:
            os.close(file)
        self.proxy.close()
        self.loop.close()
        self.patch.undo()
        shutil.rmtree(self.folder)


def locked(path: Path, how: str) -> sqlite3.Connection:
    """A foreign writer."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute(f"BEGIN {how}")
    return connection
