"""A model of what a chain may serve while a server below it, or its disk, fails at times, and processes end.

A value that was overwritten or deleted never comes back: to the process that did it; and to no other, unless
the call raised, or named the durable tier among those that failed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from missing import BareTier, LossyTier, World, forget

from tiercache import TierUnavailable, WriteError
from tiercache.testing import FakeClock

KEYS = ["a", "b"]
SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck)}

#: Step by step; a word after the dot is the argument.
STEPS = [
    *(f"{verb}.{key}" for verb in ("set", "delete", "load", "forget", "late") for key in KEYS),
    "mset", "clear", "restart", "settle", "server.up", "server.down", "server.slow", "disk.well", "disk.full",
    "wait.1", "wait.100",
]  # fmt: skip


def full(*_args: Any, **_options: Any) -> Any:
    raise TierUnavailable("the disk is full", tier="disk")


class Delaying:
    """Of a tier: the writes that it does not answer in time may be carried out later."""

    delays = False  #: set while somebody writes; what a load stores behind an outage is gone

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_its_way: dict[str, Any] = {}

    def mset(self, entries: Any) -> None:
        if self.down == "slow" and self.delays:
            self.on_its_way.update(entries)
        super().mset(entries)


class Server(Delaying, LossyTier):
    pass


class BareServer(Delaying, BareTier):
    """It can neither clear nor list."""


class Model:
    def __init__(
        self, folder: Path, patch: pytest.MonkeyPatch, layout: str, lower: Callable[..., Any]
    ) -> None:
        self.clock = FakeClock()
        self.world = World(folder, patch, layout, clock=self.clock, lower=lower)
        self.world.open()
        self.number = 0
        self.disk_well = True
        #: What this process may be given, besides ``None``; and the ones to come, besides that.
        self.allowed: dict[str, set[bytes]] = {key: set() for key in KEYS}
        self.later: dict[str, set[bytes]] = {key: set() for key in KEYS}
        #: What a clear that raised may have left where only the processes to come look: until one does not.
        self.left_behind: dict[str, set[bytes]] = {key: set() for key in KEYS}

    def run(self, steps: list[str]) -> None:
        for step in [*steps, "server.up", "disk.well", "settle", "restart", "settle"]:
            self.clock.advance(0.001)  # no two things happen at one moment
            verb, _, argument = step.partition(".")
            getattr(self, verb)(*filter(None, [argument]))
            self.look()
        for key in KEYS:
            self.late(key)
            self.forget(key)
        self.look()

    def look(self) -> None:
        for key, found in zip(KEYS, self.world.values(KEYS), strict=True):
            self.agree(key, found)

    def agree(self, key: str, found: Any) -> None:
        assert found is None or found in self.allowed[key], f"{key} is {found}, not of {self.allowed[key]}"

    def value(self) -> bytes:
        self.number += 1
        return b"%d" % self.number

    def ended(self, key: str, *values: bytes, for_all: bool) -> None:
        """``values`` took the place of what there was; ``for_all``: for the processes to come too."""
        if for_all:
            self.later[key] = set()
        else:
            self.later[key] |= self.allowed[key]
        self.allowed[key] = set(values)

    # -- steps -------------------------------------------------------------------------------------

    def set(self, key: str) -> None:
        self.write({key: self.value()})

    def mset(self) -> None:
        self.write({key: self.value() for key in KEYS})

    def write(self, values: dict[str, bytes]) -> None:
        self.world.tier.delays = True
        try:
            result = self.world.cache.mset(values)
            for_all = "disk" not in result.failed
        except WriteError:
            for_all = False
        self.world.tier.delays = False
        if not for_all:  # nobody noted it, and the caller knows
            self.world.tier.on_its_way.clear()
        for key, value in values.items():
            self.ended(key, value, for_all=for_all)

    def delete(self, key: str) -> None:
        self.end([key], "delete", key)

    def clear(self) -> None:
        self.end(KEYS, "clear")

    def end(self, keys: list[str], verb: str, *args: str) -> None:
        try:
            getattr(self.world.cache, verb)(*args)
            for_all = True
        except WriteError:
            for_all = False
        for key in keys:
            if verb == "clear":
                self.left_behind[key] = set() if for_all else self.later[key] | self.allowed[key]
            self.ended(key, for_all=for_all)

    def load(self, key: str) -> None:
        value = self.value()
        found = self.world.cache.get_or_load(key, lambda _: value)
        if found == value:
            self.allowed[key].add(value)  # no overwrite: what a tier held may be seen again
        self.agree(key, found)

    def forget(self, key: str) -> None:
        if self.disk_well:
            forget(self.world.cache, key)

    def late(self, key: str) -> None:
        """The server carries out a write that its client gave up."""
        for name in [name for name in self.world.tier.on_its_way if name.endswith(key)]:
            self.world.held[name] = self.world.tier.on_its_way.pop(name)

    def server(self, state: str) -> None:
        self.world.tier.down = {"up": False, "down": True, "slow": "slow"}[state]

    def disk(self, state: str) -> None:
        self.disk_well = state == "well"
        self.world.disk.store.__dict__.pop("_write", None)
        if not self.disk_well:
            self.world.disk.store._write = full

    def restart(self) -> None:
        on_its_way = self.world.tier.on_its_way
        self.world.restart()
        self.world.tier.on_its_way = on_its_way
        self.disk("well" if self.disk_well else "full")
        for key in KEYS:
            self.allowed[key] |= self.later[key] | self.left_behind[key]
            self.later[key] = set()

    def settle(self) -> None:
        self.world.settle()

    def wait(self, seconds: str) -> None:
        self.clock.advance(float(seconds))


LAYOUTS = ["memory disk L3", "memory L3 disk", "disk L3"]


def play(steps: list[str], layout: str, lower: Callable[..., Any]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        model = Model(Path(folder), patch, layout, lower)
        try:
            model.run(steps)
        finally:
            model.world.close()


histories = given(
    steps=st.lists(st.sampled_from(STEPS), min_size=4, max_size=20),
    layout=st.sampled_from(LAYOUTS),
    lower=st.sampled_from([Server, Server, BareServer]),
)


@settings(max_examples=100, derandomize=True, **SETTINGS)
@histories
def test_what_has_ended_never_comes_back(steps: list[str], layout: str, lower: Callable[..., Any]) -> None:
    play(steps, layout, lower)


@pytest.mark.long
@settings(max_examples=2_000, **SETTINGS)
@histories
def test_what_has_ended_never_comes_back_in_many_histories(
    steps: list[str], layout: str, lower: Callable[..., Any]
) -> None:
    play(steps, layout, lower)
