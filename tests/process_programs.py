"""Programs made of several processes over one chain, for `test_processes`.

Each is a process of its own, so that what forks here has no threads of pytest's. Called with the name of one,
and a configuration in the environment; ends with 0 and a line of JSON if all went well.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from forked import exit_code
from talking import say

from tiercache import Entry, MemoryTier, TieredCache
from tiercache._chain import leases as _leases
from tiercache.testing import DictTier

#: How long a child may take. It is not a figure: a child that takes longer hangs.
PATIENCE = 60.0
_leases.LEASE_SECONDS = 1.0  # so long a worker that was killed delays the others
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

CONFIG: dict[str, Any] = json.loads(os.environ["PROGRAM_CONFIG"])
#: As in an application: at the top of a module, which spawned processes import again.
CACHE = TieredCache.from_config(CONFIG)


def value(key: str) -> bytes:
    return (key.encode() + b".") * 50


def load(key: str) -> bytes:
    return value(f"loaded {key}")


# -- children --------------------------------------------------------------------------------------


def fork(work: Callable[[], None]) -> int:
    """The process id of a child that does ``work`` and leaves at once: with 0, or 1 and a traceback."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:  # noqa: BLE001 - told on its way out
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return pid


#: That of a child whose memory is empty.
EMPTY = 3
#: The exit code of a child, which ends by itself.
ended = partial(exit_code, seconds=PATIENCE)


def use(cache: TieredCache[Any], name: str) -> None:
    """All that a cache does: with each tier, with each kind of thread, blocking and awaited."""
    keys = [f"{name} {number}" for number in range(20)]
    assert cache.mset({key: value(key) for key in keys}).ok
    assert cache.mget(keys) == [value(key) for key in keys]
    assert cache.delete(keys[0]).ok
    assert cache.get(keys[0]) is None
    assert cache.get("before") == value("before")
    assert cache.get_or_load(f"{name} load", load, lock="shared") == load(f"{name} load")
    seen = threading.Event()

    def late(key: str) -> bytes:
        seen.set()
        return load(key)

    fresh = cache.view(name)
    fresh.get_or_load("stale", load, ttl=0.001, stale_for=600)
    time.sleep(0.002)
    # Until a refresh has its turn: the machine may have stood still until the value was quite gone.
    assert fresh.get_or_load("stale", late, ttl=0.001, stale_for=600) == load("stale")
    assert seen.wait(PATIENCE)
    cache.flush()
    asyncio.run(use_awaited(cache, name))


async def use_awaited(cache: TieredCache[Any], name: str) -> None:
    await cache.aset(f"{name} async", value("async"))
    assert await cache.amget([f"{name} async", f"{name} 1"]) == [value("async"), value(f"{name} 1")]
    assert await cache.aget_or_load(f"{name} aload", load, lock="shared") == load(f"{name} aload")
    await cache.adelete(f"{name} async")
    assert await cache.aget(f"{name} async") is None
    await cache.aflush()


def prepare() -> None:
    CACHE.set("before", value("before"))


# -- programs --------------------------------------------------------------------------------------


def task(cache: TieredCache[bytes], number: int) -> tuple[int, int, int]:
    """What a worker of a pool does: uses the cache of its module, and the one that it is given."""
    for one in (CACHE, cache):
        assert one.get("before") == value("before")
        one.set(f"task {number}", value(f"task {number}"))
        assert one.get(f"task {number}") == value(f"task {number}")
        assert one.get_or_load("shared", load, lock="shared") == load("shared")
    return os.getpid(), id(CACHE._stack), id(cache._stack)


def pools(method: str) -> Any:
    """`multiprocessing` and `concurrent.futures`, with a cache as the argument of their tasks."""
    prepare()
    context = multiprocessing.get_context(method)
    view = CACHE.view("given")
    view.set("before", value("before"))
    inherits = method == "fork"
    made = 0
    with context.Pool(2) as pool:
        answers = pool.map(partial(task, view), range(8), chunksize=2)
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        answers += list(executor.map(partial(task, view), range(8, 16)))
    for pid in {pid for pid, _, _ in answers}:
        assert pid != os.getpid()
        own = {(mine, given) for other, mine, given in answers if other == pid}
        assert len(own) == 1, "one chain for all tasks of a worker"
        ((mine, given),) = own
        assert (mine == given == id(CACHE._stack)) if inherits else mine != given
        made += 1
    assert made >= 2
    keys = [f"task {number}" for number in range(16)]
    assert CACHE.mget(keys) == [value(key) for key in keys]
    assert view.mget(keys) == [value(key) for key in keys]
    CACHE.close()
    return made


def prefork(rounds: str) -> Any:
    """A server: the parent uses the cache and forks four workers; one after another is killed and forked
    again. Each reads, writes, deletes, loads under leases, and serves stale values that are refreshed."""
    prepare()
    use(CACHE, "parent")
    hot = [f"hot {number}" for number in range(3)]

    def serve(name: str, pipe: int, lasts: int | None) -> None:
        refreshes: list[str] = []

        def again(key: str) -> bytes:
            if threading.current_thread() is not threading.main_thread():
                refreshes.append(key)
            return load(key)

        stale = CACHE.view(name)
        number = 0
        while lasts is None or number < lasts or not refreshes:
            key = f"{name} {number % 7}"
            CACHE.set(key, value(key))
            assert CACHE.get(key) == value(key)
            assert CACHE.delete(key).ok
            assert CACHE.get(key) is None
            wanted = [*hot, f"cold {number % 40}"]
            found = CACHE.mget_or_load(wanted, lambda keys: [load(key) for key in keys], ttl=5, lock="shared")
            assert found == [load(key) for key in wanted]
            assert stale.get_or_load("k", again, ttl=0.005, stale_for=600) == load("k")
            assert CACHE.get("before") == value("before")
            number += 1
            os.write(pipe, b".")
        CACHE.close()

    def start(name: str, lasts: int | None = None) -> tuple[int, int]:
        reading, writing = os.pipe()
        pid = fork(partial(serve, name, writing, lasts))
        os.close(writing)
        return pid, reading

    def hear(pipe: int) -> None:
        assert select.select([pipe], [], [], PATIENCE)[0], "a worker hangs"
        assert os.read(pipe, 1), "a worker ended"

    workers = [start(f"worker {number}") for number in range(4)]
    for turn in range(int(rounds)):
        for _, pipe in workers:
            hear(pipe)
        victim = turn % 4
        pid, pipe = workers[victim]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(pipe)
        workers[victim] = start(f"worker {victim}, again {turn}")
        use(CACHE, f"parent {turn}")
    for pid, pipe in workers:
        hear(pipe)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    last = [start(f"last {number}", 3) for number in range(4)]
    codes = [ended(pid) for pid, _ in last]
    assert codes == [0] * 4
    CACHE.close()
    return codes


def under_load(rounds: str) -> Any:
    """Forks while other threads write, read, load under leases, refresh and promote, in both APIs."""
    prepare()
    stop = threading.Event()
    worked = [0] * 4
    wrong: list[BaseException] = []

    def work(me: int) -> None:
        number = 0
        stale = CACHE.view("stale")
        try:
            while not stop.is_set():
                keys = [f"load {me} {number % 50} {part}" for part in range(5)]
                CACHE.mset({key: value(key) for key in keys})
                assert CACHE.mget(keys) == [value(key) for key in keys]
                CACHE.get_or_load(f"{me} {number}", load, lock="shared")
                stale.get_or_load("k", load, ttl=0.001, stale_for=600)
                if me == 0:
                    asyncio.run(use_awaited(CACHE, f"load {me} {number % 50}"))
                CACHE.delete(keys[0])
                worked[me] += 1
                number += 1
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            wrong.append(error)

    threads = [threading.Thread(target=work, args=(me,), daemon=True) for me in range(4)]
    for thread in threads:
        thread.start()
    codes = []
    for number in range(int(rounds)):
        before = list(worked)
        codes.append(ended(fork(partial(use, CACHE, f"child {number}"))))
        while not wrong and any(now <= then for now, then in zip(worked, before, strict=True)):
            time.sleep(0.002)  # the parent's threads go on
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert not wrong, wrong
    assert codes == [0] * int(rounds)
    for number in range(int(rounds)):
        assert CACHE.get(f"child {number} 1") == value(f"child {number} 1")
    CACHE.close()
    return codes


def with_locks_held() -> Any:
    """A fork while another thread holds every lock of this package, but for the two that a fork waits for."""
    from telemetry import watched  # it brings OpenTelemetry's SDK

    prepare()
    use(CACHE, "parent")
    paid = TieredCache([MemoryTier()], ledger=True)
    scraped = watched({"watched": CACHE, "paid": paid})
    held, leave = threading.Event(), threading.Event()
    taken: list[str] = []

    def hold() -> None:
        for item, name, lock in _locks():
            if type(item).__name__ not in ("_Watchdog", "Gate") and lock.acquire(timeout=1):
                taken.append(f"{type(item).__name__}.{name}")
        held.set()
        leave.wait()
        os._exit(0)  # to give them back in order is nobody's business

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert held.wait(PATIENCE)

    def work() -> None:
        use(CACHE, "child")
        CACHE.view("child").set("k", b"x")
        CACHE.view("child").clear()
        assert "child 1" in set(CACHE.keys())
        paid.get_or_load("k", str.encode)
        scraped()
        CACHE.purge()
        assert str(CACHE.stats())
        CACHE.close()

    code = ended(fork(work))
    say([code, sorted(set(taken))])
    leave.set()
    thread.join()


def _locks() -> list[tuple[Any, str, Any]]:
    kinds = (type(threading.Lock()), type(threading.RLock()), threading.Condition)
    found = []
    for item in gc.get_objects():
        if str(type(item).__module__).startswith("tiercache."):
            names = [name for kind in type(item).__mro__ for name in getattr(kind, "__slots__", ())]
            for name in {*names, *getattr(item, "__dict__", ())}:
                lock = getattr(item, name, None) if name.startswith(("_", "lock", "changed")) else None
                if isinstance(lock, kinds):
                    found.append((item, name, lock))
    return found


class Gated(DictTier):
    """Holds up whoever stores ``gated`` keys in the process that made it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.pid = os.getpid()
        self.inside = threading.Semaphore(0)
        self.open = threading.Event()

    def mset(self, entries: Any) -> None:
        if os.getpid() == self.pid and any("gated" in key for key in entries):
            self.inside.release()
            assert self.open.wait(PATIENCE)
        super().mset(entries)


def in_the_middle() -> Any:
    """A fork while threads and tasks of the parent load, refresh, write, promote: the child has none of them,
    and waits for none."""
    gate = Gated("middle")
    lowest = DictTier("lowest")
    cache = TieredCache([MemoryTier(), gate, lowest])
    inside, go_on = threading.Semaphore(0), threading.Event()
    lowest.mset({key: Entry(value(key)) for key in ("gated promotion", "second promotion")})
    stale = cache.view("stale")
    stale.get_or_load("k", load, ttl=0.001, stale_for=600)
    time.sleep(0.002)

    def slow(key: str) -> bytes:
        inside.release()
        assert go_on.wait(PATIENCE)
        return load(key)

    work: list[Callable[[], object]] = [
        lambda: cache.get_or_load("flight", slow),
        lambda: stale.get_or_load("k", slow, ttl=600, stale_for=600),  # refreshed behind it
        lambda: cache.set("gated write", b"of the parent"),
        lambda: asyncio.run(cache.aset("gated async write", b"of the parent")),
        lambda: asyncio.run(cache.aget_or_load("async flight", slow)),
        lambda: cache.mget(["gated promotion"]),
    ]
    threads = [threading.Thread(target=one, daemon=True) for one in work]
    for thread in threads:
        thread.start()
    for semaphore in [inside] * 3 + [gate.inside] * 3:
        assert semaphore.acquire(timeout=PATIENCE)
    cache.get("second promotion")  # queued behind the first

    def child() -> None:
        cache.flush()  # nothing is queued here
        assert cache.get_or_load("flight", load) == load("flight")
        assert asyncio.run(cache.aget_or_load("async flight", load)) == load("async flight")
        for key in ("gated write", "gated async write"):
            assert cache.set(key, b"of the child").ok
            assert cache.get(key) == b"of the child"
            assert cache.delete(key).ok
        refreshed = threading.Event()
        stale.get_or_load("k", lambda key: refreshed.set() or load(key), ttl=600, stale_for=600)  # type: ignore[func-returns-value]  # on purpose
        assert refreshed.wait(PATIENCE)
        lowest.mset({"promotion": Entry(b"x")})
        assert cache.get("promotion") == b"x"
        cache.flush()
        assert "promotion" in gate.entries
        cache.clear()
        cache.close()

    code = ended(fork(child))
    go_on.set()
    gate.open.set()
    for thread in threads:
        thread.join(PATIENCE)
    cache.flush()
    assert cache.get("gated write") == b"of the parent"
    assert cache.get("flight") == load("flight")
    assert gate.entries.keys() >= {"gated promotion", "second promotion"}
    cache.close()
    return code


def on_a_loop() -> Any:
    """A parent on an event loop forks while its tasks use the cache."""
    prepare()

    async def main() -> list[int]:
        stop = asyncio.Event()

        async def busy(me: int) -> int:
            number = 0
            while not stop.is_set():
                keys = [f"busy {me} {part}" for part in range(5)]
                await CACHE.amset({key: value(key) for key in keys})
                assert await CACHE.amget(keys) == [value(key) for key in keys]
                number += 1
            return number

        tasks = [asyncio.create_task(busy(me)) for me in range(4)]
        codes = []
        for number in range(3):
            await asyncio.sleep(0.01)
            pid = fork(partial(use, CACHE, f"child {number}"))
            codes.append(await asyncio.to_thread(ended, pid))
        stop.set()
        assert min(await asyncio.gather(*tasks)) > 0
        await CACHE.aclose()
        return codes

    codes = asyncio.run(main())
    assert codes == [0] * 3
    return codes


def memory_alone() -> Any:
    """Children that only read what is in memory: they open nothing, and start no thread."""
    keys = [f"k {number}" for number in range(200)]
    CACHE.mset({key: value(key) for key in keys})
    stop = threading.Event()

    def churn() -> None:
        view = CACHE.view("churn")
        while not stop.is_set():
            view.mset({f"{number}": b"x" for number in range(50)})

    threads = [threading.Thread(target=churn, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()

    def read() -> None:
        files = len(list(Path("/dev/fd").iterdir()))
        for key in keys:
            assert CACHE.get(key) == value(key)
        assert CACHE.mget(keys) == [value(key) for key in keys]
        assert CACHE.get_or_load(keys[0], load) == value(keys[0])
        assert len(list(Path("/dev/fd").iterdir())) == files

    def read_what_is_held() -> None:
        # A thread of the parent that was just changing the memory has it begin empty here.
        if not CACHE._stack.guards[0].tier.size().entries:
            os._exit(EMPTY)
        read()

    codes: list[int] = []
    while codes.count(0) < 10 and 1 not in codes:
        codes.append(ended(fork(read_what_is_held)))
    stop.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert set(codes) <= {0, EMPTY}

    def read_alone() -> None:
        read()
        assert threading.active_count() == 1
        assert CACHE.stats().tiers[1].misses == CACHE.stats().tiers[1].hits == 0

    assert ended(fork(read_alone)) == 0
    CACHE.close()
    return [code for code in codes if code != EMPTY]


def leave(who: str) -> Any:
    """A process leaves by `os._exit` with promotions queued: the child that has them, or its parent."""
    lower = TieredCache.from_config({**CONFIG, "tiers": [*CONFIG["tiers"][2:]]})
    keys = [f"k {number}" for number in range(2000)]
    lower.mset({key: value(key) for key in keys})
    prepare()

    def look() -> None:
        assert CACHE.mget(keys) == [value(key) for key in keys]  # half of them will be in the disk, or none

    if who == "child":

        def look_and_leave() -> None:
            look()
            os._exit(7)

        assert ended(fork(look_and_leave)) == 7
        check(keys)
        return "checked"
    waiting, held_open = os.pipe()

    def outlive() -> None:
        os.close(held_open)
        os.read(waiting, 1)  # until the parent is gone
        check(keys)
        say("checked")

    fork(outlive)
    look()
    os._exit(0)


def check(keys: list[str]) -> None:
    """After somebody left: nothing is torn, and no lock is held."""
    assert CACHE.mget(keys) == [value(key) for key in keys]
    disk = TieredCache.from_config({**CONFIG, "tiers": [CONFIG["tiers"][1]]})
    assert all(found in (None, value(key)) for key, found in zip(keys, disk.mget(keys), strict=True))
    assert disk.stats().tiers[0].corrupt == 0
    assert disk.set("after", b"x").ok
    disk.close()
    use(CACHE, "after")
    CACHE.close()


if __name__ == "__main__":
    program, *arguments = sys.argv[1:]
    say(globals()[program](*arguments))
