"""A stateful model of two processes over one disk tier and one server, while tiers die and come back, bytes
are flipped, clocks are set, and processes end.

What they are given is held against `promises`. No read raises; and what was stored while all were well is
found as long as its time is not over, so that forgetting everything is no way out.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from threading import Event
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from missing import restart_process
from promises import Name, Promises
from second_process import SecondProcess, owes_something
from servers.valkey import Valkey
from two_processes import CAP, KEYS, TwoProcesses

from tiercache.testing import BlackHole, HalfOpen, Pass, Refuse, Reset

VIEWS = [0, 1]
HOURS = 7200.0
LAYOUTS = [
    ["memory", "disk", "redis"],
    ["disk", "redis"],
    ["memory", "disk", "sql"],
    ["disk", "sql"],
]
A, B = "AB"

view = st.sampled_from([0, 0, 1])
keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=2, unique=True)
ttl = st.sampled_from([None, None, 60, 60, 4000])
who = st.sampled_from([A, A, B])
either = st.booleans()
#: Who looks afterwards.
looks = st.sampled_from(["", A, B, A + B, A + B])
#: What the other process does while a loader runs.
meanwhile = st.sampled_from([None, None, "mset", "mdelete", "clear"])
outages = st.sampled_from([Refuse(), Reset(), HalfOpen(), BlackHole()])


class FaultModel(TwoProcesses, RuleBasedStateMachine):
    """``server`` is a Valkey of its own, ``second`` the second process; ``found`` counts what was found."""

    def __init__(self, server: Valkey, second: SecondProcess, found: Counter[str]) -> None:
        TwoProcesses.__init__(self, server, second)
        RuleBasedStateMachine.__init__(self)
        self.found = found
        self.number = 0
        self.offset = 0.0  # of the wall clock
        self.late = False  # whether something may be on its way to the server

    @initialize(
        kinds=st.sampled_from(LAYOUTS),
        promote=st.sampled_from(["inline", "background", "background"]),
        max_entries=st.sampled_from([None, None, None, 2]),
        damages=st.sampled_from([False, True]),
    )
    def begin(self, kinds: list[str], promote: str, max_entries: int | None, damages: bool) -> None:
        self.damages, self.max_entries = damages, max_entries
        self.promises = Promises(self.clock, A + B, CAP if "memory" in kinds else 0.0)
        #: What is there for certain, as long as its time is not over.
        self.certain: dict[Name, tuple[bytes, float]] = {}
        #: Whether all was well since the last time that all was settled: what is stored then stays.
        self.well = True
        #: The wall clock's latest time at which something was noted that a tier missed.
        self.noted_at = 0.0
        self.start(kinds, promote=promote, max_entries=max_entries)

    def tick(self) -> None:
        """No two things happen at one moment."""
        self.clock.advance(0.001)

    def names(self, view: int, keys: list[str]) -> list[Name]:
        return [(view, key) for key in keys]

    def new(self) -> str:
        self.number += 1
        return f"value {self.number}"

    def ill(self) -> None:
        """Something may be owed from now on."""
        self.well = False
        self.noted_at = max(self.noted_at, self.clock.time())

    # -- calls -------------------------------------------------------------------------------------

    def read(
        self, who: str, view: int, keys: list[str], way: bool, single: bool = False
    ) -> list[bytes | None]:
        if who == A and single:
            found = [self.run(way, view, "get", key) for key in keys]
        elif who == A:
            found = self.run(way, view, "mget", keys)
        else:
            said = self.second.ask("get" if single else "mget", view=view, keys=keys)["found"]
            found = [None if text is None else text.encode("latin-1") for text in said]
        assert len(found) == len(keys)
        for key, each in zip(keys, found, strict=True):
            self.agree(who, (view, key), each)
        return found

    def agree(self, who: str, name: Name, found: bytes | None) -> None:
        self.promises.gave(who, name, found)
        self.found["values"] += found is not None
        self.found["misses"] += found is None
        if self.must(name):
            assert found is not None, f"{who} has forgotten {self.certain[name]}, which is {name}"
            self.found["certain"] += 1

    def must(self, name: Name) -> bool:
        """Whether a read now finds it."""
        if not self.well or self.max_entries or name not in self.certain:
            return False
        return self.clock.time() < self.certain[name][1]

    def write(
        self, who: str, verb: str, view: int, keys: list[str], life: Any, way: bool, dies_at: int | None
    ) -> None:
        """An mset, mdelete or clear."""
        self.tick()
        data = self.new()
        ended = KEYS if verb == "clear" else keys
        if who == A:
            failed = self.write_here(verb, view, keys, data.encode(), life, way)
        else:
            said = self.second.ask(verb, view=view, keys=keys, value=data, ttl=life, dies_at=dies_at)
            if "over" in said:
                self.died(verb, view, ended, data, life)
                return
            failed = said["failed"]
        for_all = failed is not None and "disk" not in failed
        for name in self.names(view, ended):
            self.certain.pop(name, None)
            if verb == "mset":
                value = self.promises.value(data.encode(), life)
                self.promises.wrote(who, name, value, for_all=for_all)
                if self.well and not failed and failed is not None and not self.damaged:
                    self.certain[name] = value.data, value.expires_at
            else:
                self.promises.ended(who, name, for_all=for_all)
        if failed is None or failed:
            self.ill()
        if not for_all:  # nobody noted it, and the caller knows: no promise is about what arrives later
            self.drop_late()

    def died(self, verb: str, view: int, ended: list[str], data: str, life: Any) -> None:
        """B was killed on its way through the tiers, and another one takes its place."""
        self.ill()
        self.drop_late()
        for name in self.names(view, ended):
            self.certain.pop(name, None)
            if verb == "mset":
                self.promises.may_have_written(name, self.promises.value(data.encode(), life))
        self.second_begins()

    def second_begins(self) -> None:
        self.promises.restarted(B)
        self.open_second()

    # -- rules: what may be done -------------------------------------------------------------------

    @rule(who=who, view=view, keys=keys, way=either, single=either)
    def look_up(self, who: str, view: int, keys: list[str], way: bool, single: bool) -> None:
        self.tick()
        self.read(who, view, keys, way, single)

    @rule(who=who, view=view, keys=keys, life=ttl, way=either, looks=looks)
    def store(self, who: str, view: int, keys: list[str], life: Any, way: bool, looks: str) -> None:
        self.write(who, "mset", view, keys, life, way, None)
        self.look(looks, view)

    @rule(
        who=who,
        verb=st.sampled_from(["mset", "mdelete", "mdelete", "clear"]),
        view=view,
        keys=keys,
        way=either,
        looks=looks,
    )
    def overwrite(self, who: str, verb: str, view: int, keys: list[str], way: bool, looks: str) -> None:
        self.write(who, verb, view, keys, None, way, None)
        self.look(looks, view)

    def look(self, looks: str, view: int) -> None:
        for one in looks:
            self.read(one, view, KEYS, way=False, single=True)

    @rule(
        who=who,
        view=view,
        keys=keys,
        life=ttl,
        way=either,
        single=either,
        other=meanwhile,
        key=st.sampled_from(KEYS),
    )
    def load(
        self,
        who: str,
        view: int,
        keys: list[str],
        life: Any,
        way: bool,
        single: bool,
        other: str | None,
        key: str,
    ) -> None:
        """``other`` is what the other process does meanwhile, to ``key``."""
        self.tick()
        disturbed = False
        data = self.new()

        def disturb() -> None:
            nonlocal disturbed
            disturbed = other is not None
            if other is not None:
                self.write(B if who == A else A, other, view, [key], None, False, None)
                self.tick()

        certain = {name for name in self.names(view, keys) if self.must(name)}
        begun = self.promises.look_begins(who, self.names(view, keys))
        if who == A:
            found, loaded = self.load_here(
                view, keys[:1] if single else keys, data.encode(), life, way, disturb
            )
        else:
            found, loaded = self.load_there(view, keys, data, life, disturb)
        touched = set(KEYS if other == "clear" else [key]) if disturbed else set()
        for each, value in zip(keys, found, strict=False):
            name = (view, each)
            if each in loaded:
                assert name not in certain, f"{name} was loaded although it was there"
                assert value == data.encode()
                # A disk tier that fails cannot tell whether somebody wrote meanwhile.
                self.promises.loaded(
                    who,
                    name,
                    self.promises.value(value, life),
                    kept=each not in touched or self.disk_ill or self.damaged,
                )
                self.certain.pop(name, None)
            else:
                assert value is not None
                self.promises.gave_late(who, name, value, begun)

    @precondition(lambda self: self.plan["promote"] == "background")
    @rule()
    def promotions_wait_or_go_on(self) -> None:
        """What runs behind A's callers."""
        if self.gate is None:
            self.gate = Event()
            assert self.cache._core.stack.promoter.submit(self.gate.wait, entries=0, size=0)
        else:
            self.promotions_go_on()

    @rule(seconds=st.sampled_from([0.5, 2.0, 45.0, 62.0, 350.0]), view=view, looks=looks)
    def time_passes(self, seconds: float, view: int, looks: str) -> None:
        if seconds > 40:  # a command that timed out is awaited for a minute
            self.drop_late()
        self.clock.advance(seconds)
        self.look(looks, view)

    @rule(offset=st.sampled_from([-HOURS, 0.0, HOURS]))
    def the_clock_is_set(self, offset: float) -> None:
        self.set_clock(offset)

    @rule(
        offset=st.sampled_from([-HOURS, -HOURS, HOURS]),
        seconds=st.sampled_from([0.0, 62.0]),
        view=view,
        looks=looks,
    )
    def the_clock_is_wrong_for_a_while(self, offset: float, seconds: float, view: int, looks: str) -> None:
        """And what was looked up meanwhile is looked up again, when it is right."""
        before = self.offset
        self.set_clock(offset)
        self.look(looks, view)
        self.set_clock(before)
        self.drop_late()
        self.clock.advance(seconds)
        self.look(looks, view)

    def set_clock(self, offset: float) -> None:
        if offset < self.offset:
            self.well = False
        self.clock.step_wall(offset - self.offset)
        self.offset = offset
        if self.damaged:
            self.promises.journal_lost()
        now = self.clock.time()  # what seems to be over may be swept, and is gone when the clock is put right
        self.certain = {name: held for name, held in self.certain.items() if now < held[1]}

    # -- rules: faults -----------------------------------------------------------------------------

    @rule(what=st.sampled_from(["server", "server", "lock", "rights"]), mode=outages)
    def a_tier_dies(self, what: str, mode: Any) -> None:
        """The server: its network fails, or, of a file, somebody holds the lock. The disk: somebody holds its
        lock, or the right to write is gone (for B, and for A if it is not root)."""
        self.ill()
        if what == "server":
            self.server_dies(mode)
        else:
            self.disk_dies(rights=what == "rights" or self.damaged)

    @rule(what=st.sampled_from(["server", "disk"]), wait=either)
    def a_tier_is_back(self, what: str, wait: bool) -> None:
        if what == "server":
            self.server_is_back()
        else:
            self.disk_is_back()
        if wait:
            self.clock.advance(2.0)  # for the breakers

    @precondition(lambda self: "redis" in self.kinds and isinstance(self.proxy.mode, Pass))
    @rule(who=who, view=view, keys=keys, verb=st.sampled_from(["mset", "mset", "mdelete"]))
    def a_write_is_late(self, who: str, view: int, keys: list[str], verb: str) -> None:
        """The server gets it when it is `let_go`."""
        self.ill()
        self.proxy.hold()
        self.late = True
        self.write(who, verb, view, keys, None, False, None)

    @precondition(lambda self: self.late)
    @rule()
    def late_writes_arrive(self) -> None:
        self.late = False
        self.let_go()

    @precondition(lambda self: self.damages and self.lock is None)
    @rule(
        what=st.sampled_from(["rows", "rows", "bytes", "header"]),
        count=st.sampled_from([1, 10, 50]),
        seed=st.integers(0, 2**16),
        view=view,
        looks=looks,
    )
    def the_disk_is_damaged(self, what: str, count: int, seed: int, view: int, looks: str) -> None:
        """A bit of each entry that it holds, ``count`` bits anywhere in its database, or its header."""
        self.damage(what, count, seed)
        self.look(looks, view)

    def damage(self, what: str, count: int, seed: int) -> None:
        self.certain.clear()
        if what == "rows" and not self.damaged:
            self.damage_rows(random.Random(seed))
        else:
            self.ill()
            self.damage_file(random.Random(seed), 0 if what == "header" else count)
            self.promises.journal_lost()

    # -- rules: processes --------------------------------------------------------------------------

    @rule(anew=either)
    def reopen(self, anew: bool) -> None:
        """``anew``: it is another process that opens it, which knows what lies on the disk."""
        self.promotions_go_on()
        self.loop.run_until_complete(self.cache.aclose())
        if anew:
            restart_process(self.patch)
        self.promises.restarted(A)
        self.open()

    @rule(
        view=view,
        keys=keys,
        verb=st.sampled_from(["mset", "mset", "mdelete"]),
        dies_at=st.none() | st.integers(0, 3),
    )
    def the_second_is_killed(self, view: int, keys: list[str], verb: str, dies_at: int | None) -> None:
        """While it waits, or at a call of a tier while it writes, if there are so many."""
        if dies_at is None:
            self.second.kill()
            self.second_begins()
        else:
            self.write(B, verb, view, keys, None, False, dies_at)

    # -- in the end --------------------------------------------------------------------------------

    @rule()
    def all_is_well_again(self) -> None:
        self.revive()
        if self.well:
            for view in VIEWS:
                for one in (A, B):
                    self.read(one, view, KEYS, False)

    def revive(self) -> None:
        self.promotions_go_on()
        self.late_writes_arrive()
        self.server_is_back()
        self.disk_is_back()
        for _ in range(5):
            self.clock.advance(61.0)  # longer than breakers stay open, and than clocks may be apart
            self.cache.get("nobody has it")
            self.cache.flush()
            self.second.ask("mget", keys=["nobody has it"])
            if not owes_something(self.chain) and not self.second.ask("owes")["owes"]:
                self.well = not self.damaged and self.clock.time() > self.noted_at + 60
                return

    def teardown(self) -> None:
        try:
            if self.cache is not None and sys.exc_info()[0] is None:
                self.all_is_well_again()
        finally:
            self.put_away()
