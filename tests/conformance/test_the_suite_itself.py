"""The suite notices what it is there for: each broken tier below fails at least the case named beside it."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
import time
from dataclasses import replace
from types import MappingProxyType

import pytest
from abilities import DICT
from selections import together

from tiercache.entry import Entry
from tiercache.errors import EntryRejected
from tiercache.testing import AsyncDictTier, Capabilities, DictTier, FakeClock, TierConformance
from tiercache.testing.conformance.views import View

NATIVE = replace(DICT, blocking=False, asynchronous=True)


class CaseFolding(DictTier):
    def mget(self, keys):
        return {key: hit for key in keys for hit in super(CaseFolding, self).mget([key.lower()]).values()}

    def mset(self, entries):
        super().mset({key.lower(): entry for key, entry in entries.items()})


class CutAtNul(DictTier):
    def mget(self, keys):
        found = super().mget([key.split("\0")[0] for key in keys])
        return {key: found[key.split("\0")[0]] for key in keys if key.split("\0")[0] in found}

    def mset(self, entries):
        super().mset({key.split("\0")[0]: entry for key, entry in entries.items()})


class Strips(DictTier):
    def mset(self, entries):
        super().mset({key.rstrip(" "): entry for key, entry in entries.items()})


class RefusesSurrogates(DictTier):
    def mset(self, entries):
        for key in entries:
            key.encode()
        super().mset(entries)


class FillsMisses(DictTier):
    def mget(self, keys):
        return dict.fromkeys(keys) | super().mget(keys)


class ReturnsTooMuch(DictTier):
    def mget(self, keys):
        super().mget(keys)
        return dict(self.entries)


class FalseIsAbsent(DictTier):
    def mget(self, keys):
        return {key: entry for key, entry in super().mget(keys).items() if entry.value}


class HandsOutItself(DictTier):
    def mget(self, keys):
        found = super().mget(keys)
        return self.entries if found == self.entries else found


class KeepsTheMapping(DictTier):
    def mset(self, entries):
        super().mset(entries)
        if not self.entries.keys() - entries.keys():
            self.entries = entries


class AbsentIsAnError(DictTier):
    def mdelete(self, keys):
        for key in keys:
            del self.entries[key]


class EmptyIsAnError(DictTier):
    def mget(self, keys):
        assert keys
        return super().mget(keys)


class LimitsBatches(DictTier):
    def mget(self, keys):
        return super().mget(keys[:1000])


class NeverExpires(DictTier):
    def mset(self, entries):
        super().mset({key: replace(entry, expires_at=None) for key, entry in entries.items()})


class ExpiresLate(DictTier):
    def _drop_expired(self, keys, now):
        super()._drop_expired(keys, now - 0.001)


class RelativeExpiry(DictTier):
    def mget(self, keys):
        found = super().mget(keys)
        return {
            key: entry if entry.expires_at is None else replace(entry, expires_at=entry.expires_at + 1.0)
            for key, entry in found.items()
        }


class SkipsExpiredWrites(DictTier):
    def mset(self, entries):
        now = self._clock.time()
        super().mset({k: e for k, e in entries.items() if e.expires_at is None or e.expires_at > now})


class KeepsTheFirstExpiry(DictTier):
    def mset(self, entries):
        super().mset(
            {k: replace(e, expires_at=self.entries.get(k, e).expires_at) for k, e in entries.items()}
        )


class PatternScan(DictTier):
    def _range(self, prefix, skip):
        return [key for key in self.entries if fnmatch.fnmatch(key, prefix + "*")]


class ScanForgetsSkip(DictTier):
    def scan(self, prefix, *, skip="", cursor=None, limit=1000):
        return super().scan(prefix, cursor=cursor, limit=limit)


class ScanByOffset(DictTier):
    """Deletes between pages shift the rest forward, past the cursor."""

    def scan(self, prefix, *, skip="", cursor=None, limit=1000):
        keys = self._range(prefix, skip)[::-1]
        start = cursor or 0
        return keys[start : start + limit], start + limit if start + limit < len(keys) else None


class OnePage(DictTier):
    def scan(self, prefix, *, skip="", cursor=None, limit=1000):
        return super().scan(prefix, skip=skip, cursor=cursor, limit=limit)[0], None


class EndlessScan(DictTier):
    def scan(self, prefix, *, skip="", cursor=None, limit=1000):
        return [], "again"


class ClearsEverything(DictTier):
    def clear(self, prefix, *, skip=""):
        super().clear("")


class PurgeCountsWrong(DictTier):
    def purge(self, prefix, *, skip="", what):
        super().purge(prefix, skip=skip, what=what)
        return 2


class OpenForEver(DictTier):
    def close(self):
        pass


class ClosesOnce(DictTier):
    def close(self):
        self._check_open()
        super().close()


class CountsNothing(DictTier):
    def counters(self):
        return {"expirations": 0}


class InventsCounters(DictTier):
    def counters(self):
        return {"oops": 0}


class WrongSize(DictTier):
    def size(self):
        return replace(super().size(), entries=7)


class LeaseForEverybody(DictTier):
    def acquire(self, keys, token, seconds):
        return list(keys)


class AllOrNothing(DictTier):
    def acquire(self, keys, token, seconds):
        taken = super().acquire(keys, token, seconds)
        return taken if len(taken) == len(keys) else []


class TakesOnce(DictTier):
    def acquire(self, keys, token, seconds):
        return super().acquire([key for key in keys if key not in self._leases], token, seconds)


class ReleasesNothing(DictTier):
    def release(self, keys, token):
        pass


class ReleasesForAnybody(DictTier):
    def release(self, keys, token):
        for key in keys:
            self._leases.pop(key, None)


class LeaseForEver(DictTier):
    def acquire(self, keys, token, seconds):
        return super().acquire(keys, token, 1e9)


class StripsLeases(DictTier):
    def acquire(self, keys, token, seconds):
        by_name = {key.strip("\0\n "): key for key in keys}
        return [by_name[name] for name in super().acquire(list(by_name), token, seconds)]


class LimitsLeases(DictTier):
    def acquire(self, keys, token, seconds):
        return super().acquire(keys[:1000], token, seconds)


class LeasesAreEntries(DictTier):
    def acquire(self, keys, token, seconds):
        taken = super().acquire(keys, token, seconds)
        self.mset({f"lease of {key}": Entry(token) for key in taken})
        return taken


class DeletesLeases(DictTier):
    def mdelete(self, keys):
        super().mdelete(keys)
        for key in keys:
            self._leases.pop(key, None)


class ClearsLeases(DictTier):
    def clear(self, prefix, *, skip=""):
        super().clear(prefix, skip=skip)
        self._leases.clear()


class PurgesLeases(DictTier):
    def purge(self, prefix, *, skip="", what):
        self._leases.clear()
        return super().purge(prefix, skip=skip, what=what)


class LooksAndThenTakes(DictTier):
    def acquire(self, keys, token, seconds):
        free = [key for key in keys if key not in self._leases]
        time.sleep(0.02)  # on a busy machine, too, another thread looks meanwhile
        with self._lock:
            self._leases.update((key, (token, self._clock.monotonic() + seconds)) for key in free)
        return free


class Races(DictTier):
    """Copies its dict, writes to the copy and puts it back, as if nobody else were there."""

    def mset(self, entries):
        copy = dict(self.entries)
        time.sleep(0.0005)
        self.entries = copy | dict(entries)
        self._used.update(dict.fromkeys(entries, self._clock.time()))


BROKEN = {
    CaseFolding: "test_different_keys_stay_different",
    CutAtNul: "test_different_keys_stay_different",
    Strips: "test_any_text_is_a_key",
    RefusesSurrogates: "test_any_text_is_a_key",
    FillsMisses: "test_returns_hits_only",
    ReturnsTooMuch: "test_returns_hits_only",
    FalseIsAbsent: "test_empty_value",
    HandsOutItself: "test_result_is_the_callers_own",
    KeepsTheMapping: "test_arguments_are_not_kept",
    AbsentIsAnError: "test_delete_absent",
    EmptyIsAnError: "test_empty_batches",
    LimitsBatches: "test_large_batch",
    NeverExpires: "test_never_serves_what_came_expired",
    ExpiresLate: "test_expires_to_the_moment",
    RelativeExpiry: "test_keeps_the_expiry",
    SkipsExpiredWrites: "test_an_expired_overwrite_hides_the_old_value",
    KeepsTheFirstExpiry: "test_a_new_expiry_replaces_the_old",
    PatternScan: "test_scan_prefix_is_literal",
    ScanForgetsSkip: "test_scan_skips_a_range",
    ScanByOffset: "test_scan_beside_writes",
    OnePage: "test_scan_pages",
    EndlessScan: "test_scan_lists_live_keys",
    ClearsEverything: "test_clear",
    PurgeCountsWrong: "test_purge_by_age",
    OpenForEver: "test_calls_after_close_raise",
    ClosesOnce: "test_close_is_idempotent",
    CountsNothing: "test_counts_what_expired",
    InventsCounters: "test_counters",
    WrongSize: "test_size",
    LeaseForEverybody: "test_a_lease_keeps_others_out",
    AllOrNothing: "test_a_lease_keeps_others_out",
    TakesOnce: "test_a_lease_is_renewed_by_its_token",
    ReleasesNothing: "test_release",
    ReleasesForAnybody: "test_release_leaves_leases_of_others",
    LeaseForEver: "test_a_lease_runs_out",
    StripsLeases: "test_a_lease_of_any_key",
    LimitsLeases: "test_a_lease_of_many_keys",
    LeasesAreEntries: "test_no_listing_names_a_lease",
    DeletesLeases: "test_leases_lie_apart_from_entries",
    ClearsLeases: "test_clear_leaves_leases_alone",
    PurgesLeases: "test_purge_leaves_leases_alone",
    LooksAndThenTakes: "test_of_many_threads_one_gets_a_lease",
    Races: "test_threads_apart",
}


def _run(case, tier_class, capabilities, way="blocking"):
    """Run one case of the suite over a new tier, outside of pytest's hands."""
    suite = type("Suite", (TierConformance,), {"capabilities": capabilities})()
    suite.clock = FakeClock(time.time())
    view = View(tier_class(clock=suite.clock), way)
    try:
        getattr(suite, case)(view)
    finally:
        view.leave()


@together("tier_class", BROKEN)
def test_a_broken_tier_is_found_out(tier_class):
    case = BROKEN[tier_class]
    _run(case, DictTier, DICT)  # the case itself is sound
    with pytest.raises(Exception):  # noqa: B017, PT011 - the tier's own error, or the suite's
        _run(case, tier_class, DICT)


def test_a_failure_says_which_rule_was_broken():
    with pytest.raises(AssertionError, match="breaks a rule: 'key' is another key than 'Key'"):
        _run("test_different_keys_stay_different", CaseFolding, DICT)
    with pytest.raises(
        AssertionError, match=r"only what was asked for comes back\nfound: .* too many 1 \['one'\]"
    ):
        _run("test_returns_hits_only", ReturnsTooMuch, DICT)


class CrossedReplies(AsyncDictTier):
    """A cancelled call leaves its reply in the connection, and the next call takes it for its own."""

    left = None

    async def amget(self, keys):
        reply = await super().amget([])
        if self.left is not None:
            reply, self.left = self.left, None
            return reply
        try:
            return await super().amget(keys)
        except BaseException:
            self.left = self.inner.mget(keys)
            raise


class OneLoop(AsyncDictTier):
    loop = None

    async def amget(self, keys):
        self._check()
        return await super().amget(keys)

    async def amset(self, entries):
        self._check()
        await super().amset(entries)

    def _check(self):
        running = asyncio.get_running_loop()
        self.loop = self.loop or running
        if self.loop is not running:
            raise RuntimeError("bound to a different event loop")


class OneTask(AsyncDictTier):
    busy = False

    async def amget(self, keys):
        if self.busy:
            raise RuntimeError("another task is reading")
        self.busy = True
        try:
            return await super().amget(keys)
        finally:
            self.busy = False


@pytest.mark.parametrize(
    ("tier_class", "case"),
    [
        (CrossedReplies, "test_cancelling_hurts_nobody"),
        (OneLoop, "test_one_loop_after_another"),
        (OneTask, "test_tasks_at_once"),
    ],
)
def test_a_broken_async_tier_is_found_out(tier_class, case):
    _run(case, AsyncDictTier, NATIVE, "asynchronous")
    with pytest.raises(Exception):  # noqa: B017, PT011 - the tier's own error, or the suite's
        _run(case, tier_class, NATIVE, "asynchronous")


def test_every_capability_must_be_declared():
    for undeclared in ("scan", "clear", "purge", "size", "counters", "lease"):
        with pytest.raises(AssertionError, match=undeclared):
            _run("test_can_do_what_it_declares", DictTier, replace(DICT, **{undeclared: False}))
    with pytest.raises(AssertionError, match="stores_bytes"):
        _run("test_can_do_what_it_declares", DictTier, replace(DICT, values="bytes"))
    with pytest.raises(AssertionError, match="asynchronous"):
        _run("test_can_do_what_it_declares", DictTier, replace(DICT, asynchronous=True))


def test_cases_follow_the_capabilities():
    class Least(TierConformance):
        capabilities = Capabilities()

    class Most(Least):
        capabilities = replace(DICT, asynchronous=True, persistent=True, bounded=True)

    def cases(suite):
        return {name for name in dir(suite) if name.startswith("test_") and getattr(suite, name)}

    assert cases(Least) < cases(TierConformance)
    assert "test_scan_pages" not in cases(Least)
    assert "test_every_byte" in cases(Least)
    assert cases(TierConformance) - cases(Most) == {"test_every_byte", "test_keeps_everything_else"}


def test_overriding_a_case_is_an_error():
    with pytest.raises(TypeError, match=r"overrides test_round_trip: .* declares that in `exceptions`"):
        type("Mine", (TierConformance,), {"test_round_trip": lambda self: None})

    class Mixin:
        def test_delete(self):
            pass

    with pytest.raises(TypeError, match="Mixin overrides test_delete"):
        type("Mine", (Mixin, TierConformance), {})
    assert inspect.isfunction(
        type("Mine", (TierConformance,), {"test_of_my_own": lambda self: None}).test_of_my_own
    )


def test_an_exception_needs_a_case_and_a_reason():
    with pytest.raises(TypeError, match="there is no case 'test_nothing'"):
        type("Mine", (TierConformance,), {"exceptions": {"test_nothing": "because"}})
    with pytest.raises(TypeError, match="test_delete is given no reason"):
        type("Mine", (TierConformance,), {"exceptions": {"test_delete": " "}})


class TestDeclaredExceptions(TierConformance):
    """A tier with a known weakness: the case runs, and is reported as an expected failure."""

    capabilities = replace(
        Capabilities(values="any", scan=True, clear=True, purge=True), size=True, counters=True, lease=True
    )
    exceptions = MappingProxyType({"test_calls_after_close_raise": "this tier has nothing to close"})

    def make_tier(self, tmp_path):
        return OpenForEver()


class Bounded(DictTier):
    """Refuses values above 64 KiB."""

    keeps_the_rest = True
    names_all = False

    def mset(self, entries):
        large = [key for key, entry in entries.items() if len(entry.value) > 64 * 1024]
        if self.keeps_the_rest or not large:
            super().mset({key: entry for key, entry in entries.items() if key not in large})
        if large:
            raise EntryRejected(entries if self.names_all else large, "too large")


@pytest.mark.parametrize(
    ("tier", "message"),
    [
        (DictTier(), "larger than the whole budget raises EntryRejected"),
        (type("Loses", (Bounded,), {"keeps_the_rest": False})(), "the rest of the batch is kept"),
        (type("NamesAll", (Bounded,), {"names_all": True})(), "names the entries that do not fit"),
    ],
)
def test_a_bounded_tier_refuses_what_never_fits_and_that_alone(tier, message):
    suite = type("Suite", (TierConformance,), {"capabilities": replace(DICT, bounded=True)})()
    suite.clock = FakeClock(time.time())
    suite.test_rejects_what_never_fits(lambda max_bytes: View(Bounded(), "blocking"))
    with pytest.raises(AssertionError, match=message):
        suite.test_rejects_what_never_fits(lambda max_bytes: View(tier, "blocking"))
