"""Processes made by processes that use a disk tier: prefork servers, `multiprocessing`, sudden ends.

Children forked while threads of the parent write, and those forked in the middle of a call, are in
``tests/faults/test_disk_processes.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from itertools import product
from pathlib import Path

import pytest
import pythons
from faults_table import Told
from selections import usually

from tiercache import DiskTier, TieredCache
from tiercache.errors import TierCacheError

#: A parent that opens a cache, has it in use by threads, and forks the workers that serve.
PREFORK = """
import os, select, signal, sys, threading, warnings
from tiercache import DiskTier, MemoryTier, TieredCache
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of threads and forks
cache = TieredCache([MemoryTier(max_entries=100), DiskTier(sys.argv[1], deadline=30)])
cache.mset({f"shared {number}": b"%d" % number for number in range(50)})
stop = threading.Event()
rounds = [0] * 3

def use(me):
    while not stop.is_set():
        cache.set(f"parent {me}", b"%d" % rounds[me])
        assert cache.get(f"parent {me}") == b"%d" % rounds[me]
        rounds[me] += 1

def serve(name, pipe):
    number, parent = 0, os.getppid()
    while os.getppid() == parent:
        key = f"{name} {number}"
        cache.set(key, key.encode())
        assert cache.get(key) == key.encode()
        assert cache.get(f"shared {number % 50}") == b"%d" % (number % 50)
        if number:
            cache.delete(f"{name} {number - 1}")
            assert cache.get(f"{name} {number - 1}") is None
        number += 1
        os.write(pipe, b".")

def fork(name):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            serve(name, writing)
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(writing)
    return pid, reading

def wait_until_it_serves(pipe, requests):
    for _ in range(requests):
        assert select.select([pipe], [], [], 30)[0], "a worker hangs"
        assert os.read(pipe, 1), "a worker ended"

threads = [threading.Thread(target=use, args=(me,), daemon=True) for me in range(3)]
for thread in threads:
    thread.start()
workers = {f"worker {number}": fork(f"worker {number}") for number in range(4)}
served = 0
for turn in range(5):
    for pid, pipe in workers.values():
        wait_until_it_serves(pipe, 3)
        served += 3
    name = next(iter(workers))  # the one that has served longest
    pid, pipe = workers.pop(name)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(pipe)
    workers[f"new worker {turn}"] = fork(f"new worker {turn}")
for pid, pipe in workers.values():
    wait_until_it_serves(pipe, 3)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
stop.set()
for thread in threads:
    thread.join()
assert min(rounds) > 0
assert cache.mget([f"shared {number}" for number in range(50)]) == [b"%d" % number for number in range(50)]
cache.close()
print(served)
"""


def test_a_prefork_server_whose_workers_are_killed_and_forked_again(tmp_path: Path, told: Told) -> None:
    command = [sys.executable, "-W", "error", "-c", PREFORK, str(tmp_path / "d")]
    done = pythons.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 5 * 4 * 3
    told("prefork server, workers killed and forked again", f"{int(done.stdout)} of 60 requests served")


def use_it(directory: str, cache: TieredCache[bytes] | None, number: int) -> int:
    """What a process of `multiprocessing` does; its exit code."""
    if cache is None:
        cache = TieredCache([DiskTier(directory, deadline=30)])
    if cache.get("before") != b"parent":
        return 2
    cache.set(f"child {number}", b"%d" % number)
    if cache.get(f"child {number}") != b"%d" % number:
        return 3
    return 0


def run_it(directory: str, cache: TieredCache[bytes] | None, number: int, *, leave: bool) -> None:
    code = use_it(directory, cache, number)
    if leave:
        os._exit(code)  # nothing is closed, and no exit handler runs
    sys.exit(code)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("method", "leave"),
    usually(
        {("spawn", False), ("fork", True), ("forkserver", False)},
        product(["spawn", "fork", "forkserver"], [False, True]),
    ),
)
def test_multiprocessing(tmp_path: Path, method: str, leave: bool) -> None:
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {method}")
    directory = str(tmp_path / "d")
    context = multiprocessing.get_context(method)
    with TieredCache([DiskTier(directory, deadline=30)]) as cache:
        cache.set("before", b"parent")
        inherited = cache if method == "fork" else None
        children = [
            context.Process(target=run_it, args=(directory, inherited, number), kwargs={"leave": leave})
            for number in range(3)
        ]
        for child in children:
            child.start()
        for child in children:
            child.join(60)
        assert [child.exitcode for child in children] == [0, 0, 0]
        assert cache.mget(["child 0", "child 1", "child 2"]) == [b"0", b"1", b"2"]
        cache.set("after", b"x")
        assert cache.get("after") == b"x"


def test_an_end_in_the_middle_of_a_write_leaves_it_to_others(tmp_path: Path) -> None:
    """The lock of a process that ends without notice goes with it."""
    tier = DiskTier(tmp_path / "d", deadline=30)
    cache = TieredCache([tier])
    cache.set("k", b"v")
    pid = os.fork()
    if pid == 0:
        try:
            tier.store._database.write(lambda c: (c.execute("DELETE FROM Cache"), os._exit(7)))
        except TierCacheError:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    cache.set("l", b"w")
    assert cache.mget(["k", "l"]) == [b"v", b"w"]
    cache.close()
