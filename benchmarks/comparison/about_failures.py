"""Claims about what breaks: a server that hangs or is gone, bytes that were changed, `kill -9`."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from benchmarks.comparison.driver import Answer
from benchmarks.comparison.trying import Claim, DoesNotApply, Try

__all__ = ["CLAIMS"]

#: After so long we wait no more.
PATIENCE = 15


def _told(answer: Answer) -> str:
    if not answer:
        return f"no answer within {PATIENCE} s"
    after = "at once" if answer["seconds"] < 0.1 else f"after {answer['seconds']:.1f} s"
    return f"{answer.said}, {after}"


def stopped(tried: Try) -> str:
    """A look-up of a key that this machine has not, of a server that hangs."""
    server = tried.server
    cache = tried.open()
    cache.do("get", "nothing")
    server.stop()
    return _told(cache.do("get", "k", within=PATIENCE))


def gone(tried: Try) -> str:
    """The same, of a server that is gone."""
    server = tried.server
    cache = tried.open()
    cache.do("get", "nothing")
    server.kill()
    time.sleep(0.2)
    return _told(cache.do("get", "k", within=PATIENCE))


def deleted_while_away(tried: Try) -> str:
    """A key is deleted while the server can't be reached. It comes back, and a new process looks."""
    from tiercache.testing import FaultyProxy
    from tiercache.testing.proxy import Pass, Refuse

    server = tried.server
    with FaultyProxy(("127.0.0.1", server.port)) as proxy:
        cache = tried.open(port=proxy.port)
        tried.filled(cache, "k", "old")
        if cache.do("get", "k").get("value") != "old":
            return "the value is not kept"
        proxy.mode = Refuse()
        time.sleep(0.2)
        deleted = cache.do("delete", "k")
        said = "deletes" if "error" not in deleted and deleted else deleted.said
        proxy.mode = Pass()
        cache.kill()
        time.sleep(1.5)
        answer = tried.open(port=proxy.port).do("get", "k")
    after = "the old value" if answer.get("value") == "old" else answer.said
    return f"{said}, then {after}"


def spoilt(tried: Try) -> str:
    """Some bytes of a stored value are changed behind its back, and a new process reads it."""
    if tried.peer.keeps == "memory":
        raise DoesNotApply
    value = "a-value-of-some-length;" * 20
    with tried.open() as cache:
        tried.filled(cache, "k", value)
        time.sleep(0.3)
    for database in (tried.base / "a").rglob("*.db"):
        with closing(sqlite3.connect(database)) as connection:  # or it is in a log with checksums of its own
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    old, new = b"value-of-some", b"vXlue-of-some"
    changed = 0
    for file in (tried.base / "a").rglob("*"):
        if file.is_file() and old in (data := file.read_bytes()):
            file.write_bytes(data.replace(old, new))
            changed += 1
    if tried.peer.served:
        changed += tried.server.spoil(old, new)
    if not changed:
        return "the value is not found in what it stored"
    answer = tried.open().do("get", "k")
    if "value" in answer:
        return "the right value" if answer["value"] == value else "the wrong value, as a hit"
    return answer.said


ROUNDS = 6


def killed(tried: Try) -> str:
    """`kill -9` while a value of 24 MB is written again and again; a new process reads."""
    if not tried.peer.on_disk:
        raise DoesNotApply
    torn = 0
    for number in range(ROUNDS):
        cache = tried.open(disk_alone=True)
        cache.start("rewrite", 24_000_000)
        time.sleep(0.7 + 0.05 * number)
        cache.kill()
        with tried.open(disk_alone=True) as other:
            torn += other.do("read_whole", 1)["value"]
    return f"torn, {torn} of {ROUNDS}" if torn else "whole, or a miss"


def read_while_written(tried: Try) -> str:
    """One process writes a value of 4 MB again and again, another one reads it 40 times."""
    if not tried.peer.on_disk:
        raise DoesNotApply
    writer, reader = tried.open(disk_alone=True), tried.open(disk_alone=True)
    writer.start("rewrite", 4_000_000)
    time.sleep(0.5)
    torn = reader.do("read_whole", 40, within=60)["value"]
    return f"torn, {torn} of 40" if torn else "whole, or a miss"


CLAIMS = (
    Claim("stopped", "the server hangs: a look-up gives", stopped),
    Claim("gone", "the server is gone: a look-up gives", gone),
    Claim(
        "deleted-while-away",
        "a delete while the server can't be reached; once it is back there is",
        deleted_while_away,
    ),
    Claim("spoilt", "stored bytes were changed: a look-up gives", spoilt),
    Claim("killed", "`kill -9` while a value of 24 MB is rewritten on disk: it is", killed),
    Claim(
        "read-while-written",
        "a value of 4 MB on disk is read while another process rewrites it",
        read_while_written,
    ),
)
