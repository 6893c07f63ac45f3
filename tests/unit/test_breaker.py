"""The circuit breaker by itself: when it opens, whom it lets through, and when it closes."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from tiercache._guard.breaker import Breaker, Permit
from tiercache.policies import Failure
from tiercache.testing import FakeClock

LIMIT = 20.0


def never_early() -> float:
    return 0.0


def breaker(clock: FakeClock, *, failures: int = 3, pause: float = 1.0, longest: float = 30.0) -> Breaker:
    policy = Failure(breaker_failures=failures, breaker_pause=pause, breaker_longest=longest)
    return Breaker(policy, clock, never_early)


def permit(one: Breaker) -> Permit:
    """A call begins; it must be let through."""
    given = one.probe() if one.permit is None else one.permit
    assert given is not None
    return given


def refused(one: Breaker) -> bool:
    return one.permit is None and one.probe() is None


def opened(one: Breaker, failures: int = 3) -> None:
    for _ in range(failures):
        one.failed(permit(one))
    assert one.permit is None


def test_it_opens_after_failures_in_a_row() -> None:
    one = breaker(FakeClock())
    for call in (one.failed, one.failed, one.succeeded, one.failed, one.failed):
        assert call(permit(one)) is None
        assert one.permit is not None
    assert one.failed(permit(one)) == 1.0
    assert refused(one)


def test_it_draws_without_its_lock() -> None:
    """To draw may import something, and collect a call that gives its permit back."""
    drawn_under_lock: list[bool] = []

    def draw() -> float:
        drawn_under_lock.append(one._lock.locked())
        return 0.0

    one = Breaker(Failure(breaker_failures=3), FakeClock(), draw)
    opened(one)
    assert drawn_under_lock
    assert not any(drawn_under_lock)


def test_a_success_that_is_no_news_need_not_be_told() -> None:
    one = breaker(FakeClock())
    assert not one.ailing
    one.failed(permit(one))
    assert one.ailing
    one.succeeded(permit(one))
    assert not one.ailing


def test_after_the_pause_one_probe_at_a_time() -> None:
    clock = FakeClock()
    one = breaker(clock)
    opened(one)
    clock.advance(0.999)
    assert refused(one)
    clock.advance(0.002)
    probe = permit(one)
    assert refused(one)
    assert one.succeeded(probe) == pytest.approx(1.001)
    assert not one.ailing
    assert [permit(one), permit(one)] == [one.permit, one.permit]


def test_each_failed_probe_doubles_the_pause_up_to_the_longest() -> None:
    clock = FakeClock()
    one = breaker(clock)
    opened(one)
    for pause in (1, 2, 4, 8, 16, 30, 30):
        clock.advance(pause - 0.01)
        assert refused(one)
        clock.advance(0.02)
        assert one.failed(permit(one)) is None, "it was open all the time"
    clock.advance(30)
    one.succeeded(permit(one))
    opened(one)
    clock.advance(1)
    assert not refused(one), "a new outage begins with a short pause"


def test_jitter_shortens_a_pause_by_a_quarter_at_most() -> None:
    pauses = []
    for draw in (0.0, 0.5, 0.999):
        one = Breaker(Failure(breaker_failures=1), FakeClock(), lambda draw=draw: draw)  # type: ignore[misc]  # a default binds it
        pauses.append(one.failed(permit(one)))
    assert pauses == pytest.approx([1.0, 0.875, 0.75025])
    one = Breaker(Failure(breaker_failures=1), FakeClock())
    assert 0.75 <= (one.failed(permit(one)) or 0) <= 1.0


@pytest.mark.parametrize("report", ["succeeded", "failed", "undecided"])
def test_what_began_before_it_opened_tells_nothing(report: str) -> None:
    clock = FakeClock()
    one = breaker(clock)
    early = permit(one)
    opened(one)
    assert getattr(one, report)(early) is None
    assert refused(one)
    clock.advance(1)
    probe = permit(one)
    assert getattr(one, report)(early) is None
    assert refused(one), "the probe is still out"
    assert one.succeeded(probe) is not None, "and it alone decides"


def test_a_probe_that_told_nothing_leaves_its_place_to_the_next() -> None:
    clock = FakeClock()
    one = breaker(clock)
    opened(one)
    clock.advance(1)
    given_up = permit(one)
    one.undecided(given_up)
    second = permit(one)
    assert one.succeeded(given_up) is None, "its place is taken"
    assert one.succeeded(second) is not None


def test_failures_of_many_threads_open_it_once() -> None:
    one = breaker(FakeClock())
    barrier = threading.Barrier(16)
    told: list[float | None] = []

    def fail() -> None:
        mine = permit(one)
        barrier.wait(LIMIT)
        told.append(one.failed(mine))

    _in_threads(fail, 16)
    assert sorted(told, key=str) == [1.0] + [None] * 15


def test_of_many_threads_one_is_the_probe() -> None:
    clock = FakeClock()
    one = breaker(clock)
    opened(one)
    clock.advance(1)
    barrier = threading.Barrier(16)
    probes: list[Permit | None] = []

    def ask() -> None:
        barrier.wait(LIMIT)
        probes.append(one.probe())

    _in_threads(ask, 16)
    assert len([given for given in probes if given is not None]) == 1


def test_a_fork_during_a_probe_leaves_the_child_a_probe_of_its_own() -> None:
    clock = FakeClock()
    one = breaker(clock)
    opened(one)
    clock.advance(1)
    probe = permit(one)
    one._lock.acquire()  # as another thread may have, just then
    pid = os.fork()
    if pid == 0:
        one.after_fork()
        os._exit(0 if one.probe() is not None else 1)
    one._lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert one.succeeded(probe) is not None


def _in_threads(work: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
        assert not thread.is_alive()


class BreakerModel(RuleBasedStateMachine):
    """Calls begin and end in any order while time passes; a plain account of the rules says what is right."""

    calls = Bundle("calls")

    @initialize(limit=st.integers(1, 4))
    def begin(self, limit: int) -> None:
        self.clock = FakeClock()
        self.limit = limit
        self.breaker = breaker(self.clock, failures=limit, pause=1.0, longest=4.0)
        self.state = "closed"
        self.in_a_row = 0
        self.pause = 1.0
        self.until = 0.0
        self.period = 0  # calls of an earlier one count for nothing

    @rule(seconds=st.sampled_from([0.25, 0.5, 1.0, 2.0, 4.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(target=calls)
    def call(self):  # type: ignore[no-untyped-def]  # hypothesis' own types for this are unwieldy
        one = self.breaker
        given = one.probe() if one.permit is None else one.permit
        if self.state == "open" and self.clock.monotonic() >= self.until:
            self.state = "probing"
            self.period += 1
        elif self.state != "closed":
            assert given is None
            return multiple()
        assert given is not None
        return given, self.period

    @rule(call=consumes(calls))
    def fails(self, call: tuple[Permit, int]) -> None:
        told = self.breaker.failed(call[0])
        if call[1] != self.period or self.state == "open":
            assert told is None
        elif self.state == "probing":
            assert told is None
            self.open()
        else:
            self.in_a_row += 1
            assert (told is not None) == (self.in_a_row == self.limit)
            if told is not None:
                assert told == self.pause
                self.open()

    @rule(call=consumes(calls))
    def succeeds(self, call: tuple[Permit, int]) -> None:
        told = self.breaker.succeeded(call[0])
        closes = call[1] == self.period and self.state == "probing"
        assert (told is not None) == closes
        if call[1] == self.period and self.state != "open":
            self.in_a_row = 0
        if closes:
            self.state = "closed"
            self.pause = 1.0
            self.period += 1

    @rule(call=consumes(calls))
    def is_cancelled(self, call: tuple[Permit, int]) -> None:
        self.breaker.undecided(call[0])
        if call[1] == self.period and self.state == "probing":
            self.state = "open"
            self.period += 1

    def open(self) -> None:
        self.state = "open"
        self.until = self.clock.monotonic() + self.pause
        self.pause = min(2 * self.pause, 4.0)
        self.in_a_row = 0
        self.period += 1

    @invariant()
    def the_healthy_path_is_told_by_attributes(self) -> None:
        if hasattr(self, "breaker"):
            assert (self.breaker.permit is not None) == (self.state == "closed")
            assert self.breaker.ailing == (self.state != "closed" or self.in_a_row > 0)


TestBreakerModel = BreakerModel.TestCase
TestBreakerModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
