"""A single entry is promoted into memory in one go: as the whole road does it, while its ticket is good."""

from __future__ import annotations

from itertools import product

import pytest

from tiercache import Entry, MemoryTier, TieredCache
from tiercache._chain.reading import Reader
from tiercache._running.bridge import BLOCKING, drive
from tiercache.codecs import JSONCodec
from tiercache.testing import FakeClock


class Lower:
    """A tier of bytes that keeps what it is given, and does something first when it is read."""

    name = "lower"
    stores_bytes = True

    def __init__(self, first=lambda: None):
        self.entries = {}
        self.first = first

    def mget(self, keys):
        found = {key: self.entries[key] for key in keys if key in self.entries}
        self.first()
        return found

    def mset(self, entries):
        self.entries.update(entries)

    def mdelete(self, keys):
        for key in keys:
            self.entries.pop(key, None)

    def close(self):
        pass


def entries(codec, now):
    """Such as a lower tier may hold, by key."""
    name, payload = ("bytes", b"1") if codec is None else (codec.name, b"[1]")
    times = [(None, None, None), (now + 9, now, None), (now + 9, now - 5, now + 1), (now + 2, now + 3, None)]
    made = {str(number): Entry(payload, *given, name, 3) for number, given in enumerate(times)}
    made["no size"] = Entry(payload, None, now, None, name)
    made["large"] = Entry(b'"' + b"x" * 99 + b'"', None, now, None, name, 101)
    made["plain"] = Entry(payload, None, now, None, "bytes", 3)
    return made


def test_it_does_what_the_whole_road_does(monkeypatch):
    for cap, codec in product((None, 4), (None, JSONCodec())):
        seen = []
        for at_once in (True, False):
            if not at_once:
                monkeypatch.setattr(Reader, "_fill_at_once", lambda *_given: False)
            clock, lower = FakeClock(), Lower()
            memory = MemoryTier(max_entries=4, max_bytes=90, ttl=cap, clock=clock)
            with TieredCache([memory, lower], codec=codec, clock=clock) as cache:
                lower.entries = entries(codec, clock.time())
                states = []
                for key in [*lower.entries, "0", "1"]:
                    states += [cache.get(key), cache._core.members[0].fast.mget(list(lower.entries))]
                    clock.advance(0.6)
                    states += [cache.get(key), list(cache._core.members[0].fast.scan("")[0])]
                stats = cache.stats()
                first = stats.tiers[0]
                states.append((stats.hits, stats.misses, stats.suppressed_writes))
                states.append((first.hits, first.promotions, first.rejected, first.evictions, memory.size()))
                assert not cache._core.space.epochs._tickets
                seen.append(states)
            monkeypatch.undo()
        assert seen[0] == seen[1]


def test_it_is_taken(monkeypatch):
    monkeypatch.setattr(Reader, "fill", None)
    clock = FakeClock()
    with TieredCache([MemoryTier(clock=clock), Lower()], clock=clock) as cache:
        cache._core.members[1].guard.tier.entries["k"] = Entry(b"1", None, clock.time(), None, "bytes", 1)
        assert cache.get("k") == b"1"
        assert cache.stats().tiers[0].promotions == 1
        assert cache.get("k") == b"1"
        assert cache.stats().tiers[0].hits == 1


def test_the_caller_may_change_what_he_got():
    lower = Lower()
    with TieredCache([MemoryTier(), lower], codec=JSONCodec()) as cache:
        lower.entries = entries(JSONCodec(), 0.0)
        got = cache.get("0")
        got.append(2)
        assert cache.get("0") == [1]
        assert cache.stats().tiers[0].hits == 1


@pytest.mark.parametrize("write", ["delete", "clear", "set"])
def test_what_was_written_since_it_was_read_is_not_promoted(write):
    clock = FakeClock()
    lower = Lower()
    with TieredCache([MemoryTier(clock=clock), lower], clock=clock) as cache:
        lower.entries["k"] = Entry(b"old", None, clock.time(), None, "bytes", 3)

        def first():
            lower.first = lambda: None
            {
                "delete": lambda: cache.delete("k"),
                "clear": cache.clear,
                "set": lambda: cache.set("k", b"new"),
            }[write]()

        lower.first = first
        assert cache.get("k") == b"old"
        assert cache.get("k") == (b"new" if write == "set" else None)
        assert cache.stats().suppressed_writes == 1


def test_others_at_the_key_are_left_to_the_whole_road():
    with TieredCache([MemoryTier()]) as cache:
        epochs = cache._core.space.epochs
        done = []

        def at_once(ticket):
            return epochs.fill_at_once(ticket, "k", lambda given: done.append(given) or True, 1, stored=True)

        ticket = epochs.open_ticket()
        other = epochs.open_ticket()
        assert at_once(ticket)
        assert epochs.changed(other, ["k", "l"]) == ["k"]
        fill = epochs.begin_fill(ticket, ["k"], BLOCKING)
        assert not at_once(ticket)
        epochs.end_fill(fill)
        write = drive(epochs.begin_write(["k"], BLOCKING))
        assert not at_once(ticket)
        epochs.end_write(write)
        assert not at_once(ticket)
        late = epochs.open_ticket()
        assert at_once(late)
        clear = drive(epochs.begin_clear(BLOCKING))
        assert not at_once(late)
        epochs.end_clear(clear)
        assert not at_once(late)
        assert done == [1, 1]


def test_memory_over_others_is_asked_only_for_what_it_holds():
    clock, lower, asked = FakeClock(), Lower(), []
    with TieredCache([MemoryTier(clock=clock), lower], ttl=5, clock=clock) as cache:
        port = cache._core.members[0].port(BLOCKING)
        now = port.now
        port.now = lambda keys: asked.append(list(keys)) or now(keys)
        assert cache.get("k") is None
        assert cache.mget(["k"]) == [None]
        assert not asked
        assert cache.stats().tiers[0].misses == cache.stats().misses == 2
        cache.set("k", b"1")
        lower.entries.clear()
        clock.advance(9)
        assert cache.get("k") is None
        assert asked == [["k"]]
        first = cache.stats().tiers[0]
        assert (first.misses, first.expirations, first.entries) == (3, 1, 0)
        assert cache.mget(["k", "l"]) == [None, None]
        assert asked[1:] == [["k", "l"]]
    with TieredCache([MemoryTier()]) as cache:  # nothing else would drop there what has expired
        port = cache._core.members[0].port(BLOCKING)
        now, asked = port.now, []
        port.now = lambda keys: asked.append(list(keys)) or now(keys)
        assert cache.get("k") is None
        assert asked == [["k"]]
