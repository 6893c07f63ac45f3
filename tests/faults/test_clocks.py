"""The wall clock is set back and ahead by hours: nothing is served later than its life after it was read from
the tier that had it, and nothing lives for ever.

By the injected clock, and by libfaketime in a process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from math import inf
from pathlib import Path

import pytest
import pythons
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tiercache import DiskTier, EncodedTier, Entry, MemoryTier, SQLTier, TieredCache
from tiercache.testing import ChaosTier, DictStore, DictTier, FakeClock, Raise

HOURS = 7200.0
CAP = 300.0  # of memory above another tier

lives = st.sampled_from([None, 1.0, 60.0, 250.0, 4000.0, 9000.0])
actions = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.sampled_from("ab"), lives),
        st.tuples(st.just("get"), st.sampled_from("ab"), st.none()),
        st.tuples(st.just("forget"), st.none(), st.none()),  # memory is emptied, as by eviction
        st.tuples(st.just("delete"), st.sampled_from("ab"), st.none()),
        st.tuples(st.just("step"), st.none(), st.sampled_from([-HOURS, HOURS, -100.0, 100.0])),
        st.tuples(st.just("advance"), st.none(), st.sampled_from([0.5, 59.0, 200.0, 1000.0, 8000.0])),
    ),
    max_size=25,
)


class Written:
    """A value as the model knows it: what may still serve it, and what must."""

    def __init__(self, value: bytes, life: float | None, clock: FakeClock) -> None:
        self.value = value
        self.life = inf if life is None else life
        self.expires_at = clock.time() + self.life
        #: When, in real time, it was put into memory for the last time.
        self.risen = clock.monotonic()
        self.stepped = False

    def below(self, clock: FakeClock) -> bool:
        """Whether a tier that goes by the wall clock has it."""
        return clock.time() < self.expires_at

    def in_memory(self, clock: FakeClock, cap: float) -> bool:
        """Whether memory may have it: for its life since it was put there, and no longer."""
        return clock.monotonic() - self.risen < min(self.life, cap)


def tier(kind: str, folder: Path, clock: FakeClock):
    if kind == "disk":
        return DiskTier(folder / "disk", deadline=30, clock=clock)
    if kind == "sqlite":
        return SQLTier(f"sqlite:///{folder}/cache.db", deadline=30, clock=clock)
    return {"dict": DictTier, "encoded": lambda clock: EncodedTier(DictStore(), clock=clock)}[kind](
        clock=clock
    )


@pytest.mark.parametrize("kinds", [(), ("disk",), ("sqlite",), ("encoded", "dict")], ids="-".join)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(program=actions, promote=st.sampled_from(["inline", "background"]))
@example(
    program=[
        ("set", "a", 60.0),
        ("forget", None, None),
        ("step", None, -HOURS),
        ("get", "a", None),
        ("step", None, HOURS),
        ("advance", None, 200.0),
        ("get", "a", None),
    ],
    promote="inline",
)
def test_nothing_is_served_later_than_its_life_after_it_was_read(kinds, program, promote):
    clock = FakeClock()
    folder = Path(tempfile.mkdtemp(prefix="tiercache-clocks-"))
    memory = MemoryTier(clock=clock)
    lower = [tier(kind, folder, clock) for kind in kinds]
    cache = TieredCache([memory, *lower], clock=clock, promote=promote)
    cap = CAP if lower else inf
    known: dict[str, Written] = {}
    try:
        for number, (action, key, amount) in enumerate(program):
            if action == "set":
                value = b"%d" % number
                assert cache.set(key, value, ttl=amount).ok
                known[key] = Written(value, amount, clock)
            elif action == "delete":
                cache.delete(key)
                known.pop(key, None)
            elif action == "forget":
                for one in known.values():
                    one.risen = -inf
                cache._core.members[0].fast.clear()
            elif action == "step":
                clock.step_wall(amount)
                for one in known.values():
                    one.stepped = True
            elif action == "advance":
                clock.advance(amount)
            else:
                found = cache.get(key)
                cache.flush()
                one = known.get(key)
                if one is None:
                    assert found is None
                    continue
                in_memory = one.in_memory(clock, cap)
                below = bool(lower) and one.below(clock)
                assert found in (None, one.value)
                assert found is None or in_memory or below, (one.life, clock.monotonic() - one.risen)
                if not one.stepped:  # the model is exact, and not only a bound
                    assert (found is not None) == (in_memory or below)
                if found is not None and not in_memory:
                    one.risen = clock.monotonic()
    finally:
        cache.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("seconds", [-HOURS, HOURS])
def test_memory_goes_by_real_time_whatever_is_done_to_the_clock(seconds):
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock)], clock=clock) as cache:
        cache.set("k", b"v", ttl=60)
        clock.step_wall(seconds)
        clock.advance(59)
        assert cache.get("k") == b"v"
        clock.advance(1)
        assert cache.get("k") is None
        assert cache.mget(["k", "k"]) == [None, None]


@pytest.mark.parametrize("kind", ["disk", "sqlite", "dict", "encoded"])
def test_a_step_back_lengthens_a_life_below_by_no_more_than_the_step(kind, tmp_path):
    clock = FakeClock()
    with TieredCache([tier(kind, tmp_path, clock)], clock=clock) as cache:
        cache.set("k", b"v", ttl=60)
        clock.step_wall(-HOURS)
        clock.advance(HOURS + 59)
        assert cache.get("k") == b"v"
        clock.advance(1)
        assert cache.get("k") is None


@pytest.mark.parametrize("kind", ["disk", "sqlite", "dict", "encoded"])
def test_what_seems_to_be_from_the_future_rises_for_its_whole_life_and_no_longer(kind, tmp_path):
    """A writer whose clock was ahead, or a clock that was put right since."""
    clock = FakeClock()
    lowest = tier(kind, tmp_path, clock)
    cache = TieredCache([MemoryTier(ttl=None, clock=clock), lowest], clock=clock)
    with cache:
        now = clock.time()
        lowest.mset({"k": Entry(b"v", now + HOURS + 60, now + HOURS, now + HOURS + 20)})
        assert cache.get("k") == b"v"
        lowest.mdelete(["k"])
        clock.advance(19)
        assert cache.get("k") == b"v"
        clock.advance(1)  # no longer fresh
        assert cache.get("k") is None
        assert cache.get_or_load("k", lambda _: b"new", stale_for=30) == b"v"
        cache.flush()
        assert cache.get("k") == b"new"


def test_what_rises_stale_is_served_no_longer_than_it_may(tmp_path):
    clock = FakeClock()
    lowest = tier("disk", tmp_path, clock)
    with TieredCache([MemoryTier(ttl=None, clock=clock), lowest], clock=clock, stale_for=60) as cache:
        cache.set("k", b"old", ttl=30)
        cache._core.members[0].fast.clear()
        clock.step_wall(-HOURS)
        assert cache.get("k") == b"old"  # risen: fresh for 30 s, held for 90 s
        lowest.mdelete(["k"])
        clock.advance(89)
        assert cache.get("k") is None
        assert cache.get_or_load("k", lambda _: None) == b"old"
        cache.flush()
        clock.advance(1)
        assert cache.get_or_load("k", lambda _: b"new") == b"new"


@pytest.mark.parametrize("seconds", [-HOURS, HOURS])
@pytest.mark.parametrize("kind", ["disk", "sqlite"])
def test_a_lease_of_one_who_died_is_over_when_it_said(kind, tmp_path, seconds):
    clock = FakeClock()
    store = tier(kind, tmp_path, clock)
    assert store.acquire(["k"], "dead", 15.0) == ["k"]
    clock.step_wall(seconds)
    clock.advance(14)
    assert store.acquire(["k"], "mine", 15.0) == []
    clock.advance(1)
    assert store.acquire(["k"], "mine", 15.0) == ["k"]
    store.close()


@pytest.mark.parametrize("seconds", [-HOURS, HOURS])
def test_a_breaker_opens_and_probes_by_real_time(seconds):
    clock = FakeClock()
    lowest = DictTier("lowest", clock=clock)
    ill = ChaosTier(lowest)
    with TieredCache([MemoryTier(clock=clock), ill], clock=clock) as cache:
        lowest.mset({"k": Entry(b"v")})
        ill.inject(Raise(), on="mget", times=3)
        for _ in range(3):
            assert cache.get("k") is None
        clock.step_wall(seconds)
        assert cache.get("k") is None  # left alone, though hours seem to have passed
        assert cache.stats().tiers[1].skipped == 1
        clock.advance(1)
        assert cache.get("k") == b"v"


@pytest.mark.parametrize("durable", [False, True], ids=["alone", "over a disk"])
@pytest.mark.parametrize("steps", [(-HOURS, 0.0), (0.0, -HOURS), (-HOURS, HOURS), (HOURS, -HOURS)])
def test_a_delete_that_a_tier_missed_holds_whatever_is_done_to_the_clock(tmp_path, steps, durable):
    """``steps``: between the write and the delete, and after the delete."""
    clock = FakeClock()
    lowest = DictTier("lowest", clock=clock)
    ill = ChaosTier(lowest)
    disk = [DiskTier(tmp_path / "disk", deadline=30, clock=clock)] if durable else []
    with TieredCache([MemoryTier(clock=clock), *disk, ill], clock=clock) as cache:
        cache.set("k", b"old")
        clock.step_wall(steps[0])
        ill.inject(Raise(), on="mdelete", times=1)
        cache.delete("k")
        assert "k" in lowest.entries
        clock.step_wall(steps[1])
        for _ in range(3):
            assert cache.get("k") is None
            clock.advance(1)
        cache.flush()
        assert "k" not in lowest.entries
        clock.advance(3 * HOURS)  # the clock is past all that was ever written
        cache.set("k", b"new")
        assert cache.get("k") == b"new"


@pytest.mark.parametrize("seconds", [-HOURS, HOURS])
def test_memory_goes_on_until_the_time_that_was_meant_on_every_road(seconds: float) -> None:
    clock = FakeClock()
    cache = TieredCache([MemoryTier(clock=clock), MemoryTier(ttl=None, clock=clock)], clock=clock)
    cache.set("k", b"value", ttl=60)
    clock.step_wall(seconds)
    clock.advance(59)
    assert cache.get("k") == b"value"
    assert cache.mget(["k", "absent"]) == [b"value", None]
    assert cache.mget_or_load(["k", "absent"], lambda keys: [b"loaded"] * len(keys)) == [b"value", b"loaded"]
    clock.advance(1)
    assert cache.mget(["k", "absent"]) == [None, b"loaded"]
    assert cache.get("k") is None


# -- the real clocks -------------------------------------------------------------------------------


def _library() -> Path | None:
    spec = importlib.util.find_spec("libfaketime")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).rglob("libfaketime.so.1"):
            return path
    return None


def test_a_process_whose_wall_clock_is_stepped(tmp_path, valkey):
    library = _library()
    if library is None or sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("libfaketime is not installed, or not for this machine")
    step = tmp_path / "step"
    step.write_text("+0")
    with tempfile.TemporaryDirectory(prefix="faketime-") as folder:  # a path in LD_PRELOAD has no blanks
        _run_stepped(Path(shutil.copy(library, folder)), step, tmp_path, valkey)


def _run_stepped(library, step, tmp_path, valkey):
    program = Path(__file__).with_name("clock_program.py")
    done = pythons.run(
        [sys.executable, str(program), str(step), str(tmp_path), valkey.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ
        | {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(step),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",  # its name until 0.9.10
        },
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "done\n"
