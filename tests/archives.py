"""A plug-in: caches to export and import; and archives in memory, for the tests of `tiercache.archive`."""

from __future__ import annotations

import io
from contextlib import ExitStack

import pytest

from tiercache import DiskTier, Entry, MemoryTier, SQLTier, TieredCache
from tiercache.archive import export_archive, import_archive
from tiercache.archive._format import Header, Item, Page, Reader, Writer
from tiercache.testing import FakeClock

NOW = FakeClock().time()


@pytest.fixture
def make_chain(tmp_path, clock):
    """Makes chains of memory over disk over SQL, each in a folder of its own, and closes them. ``ttls``: the
    caps of tiers, by their types."""
    with ExitStack() as stack:

        def chain(name, *, namespace="app", tiers=("memory", "disk", "sql"), ttls=None, **options):
            place = tmp_path / name
            place.mkdir(exist_ok=True)
            makers = {
                "memory": lambda **cap: MemoryTier(clock=clock, **cap),
                "disk": lambda **cap: DiskTier(place / "disk", clock=clock, **cap),
                "sql": lambda **cap: SQLTier(f"sqlite:///{place}/shared.sqlite", clock=clock, **cap),
            }
            caps = {kind: {"ttl": ttl} for kind, ttl in (ttls or {}).items()}
            made = [makers[kind](**caps.get(kind, {})) for kind in tiers]
            return stack.enter_context(TieredCache(made, namespace=namespace, clock=clock, **options))

        yield chain


def archive(cache, **options):
    stream = io.BytesIO()
    report = export_archive(cache, stream, **options)
    return stream.getvalue(), report


def load(data, cache, **options):
    return import_archive(io.BytesIO(data), cache, **options)


def contents(data):
    return {(one.path, one.key): one.entry for one in Reader(io.BytesIO(data)) if isinstance(one, Item)}


def handmade(*items, at=NOW):
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.header(Header(at, "disk", ("app",), "0"))
    writer.page(Page(at, None))
    for item in items:
        writer.item(item)
    writer.end(len(items))
    return stream.getvalue()


def one(key, value=b"value", path=(), **times):
    return Item(path, key, Entry(value, size=len(value), **times))


def tier_of(cache, depth):
    return cache.as_tier()._core.stack.guards[depth].tier


def drop_from(cache, depth, *keys):
    """That tier loses them, unseen by the chain."""
    tier_of(cache, depth).mdelete(list(cache.as_tier()._core.members[depth].fold_all(keys)))


class Failing:
    """A tier of dicts that can be told to fail."""

    name = "failing"

    def __init__(self):
        self.data, self.ill, self.stores_bytes = {}, set(), True

    def _do(self, verb):
        if verb in self.ill:
            raise OSError(f"no {verb} today")

    def mget(self, keys):
        self._do("mget")
        return {key: self.data[key] for key in keys if key in self.data}

    def mset(self, entries):
        self._do("mset")
        self.data.update(entries)

    def mdelete(self, keys):
        for key in keys:
            self.data.pop(key, None)

    def scan(self, prefix, *, skip="", cursor=None, limit=1000):
        self._do("scan")
        found = [key for key in self.data if key.startswith(prefix) and not (skip and key.startswith(skip))]
        start = cursor or 0
        page = found[start : start + limit]
        return page, start + limit if start + limit < len(found) else None

    def close(self):
        pass
