"""How much of a cache an export and an import have in memory at a time, whatever the sizes of its values."""

from __future__ import annotations

import pytest
from archives import Failing, archive, contents, drop_from, load

from tiercache import MemoryTier, TieredCache, TierUnavailable, guarded
from tiercache._chain.reading import Reader
from tiercache.archive._pieces import BYTES
from tiercache.keys import Namespace

SMALL = {f"a-{number:03}": b"." for number in range(200)}  # which come first in every listing
LARGE = {f"b-{number:03}": bytes([number]) * (BYTES // 8) for number in range(24)}
HUGE = {"c": b"h" * (BYTES + 1)}
VALUES = SMALL | LARGE | HUGE


@pytest.fixture
def reads(monkeypatch):
    """The sizes of the values of each read."""
    sizes = []
    stored = Reader.stored

    async def counted(*arguments, **options):
        found = await stored(*arguments, **options)
        sizes.append([len(entry.value) for entry in found.values()])
        return found

    monkeypatch.setattr(Reader, "stored", counted)
    return sizes


def is_bounded(reads):
    return all(len(sizes) == 1 or sum(sizes) <= BYTES for sizes in reads)


KINDS = ["memory", "disk", "sql", "capped", "upper", "chain", "guarded"]


@pytest.fixture(params=KINDS)
def source(request, make_chain):
    kind = request.param
    if kind == "capped":  # so that each tier is read
        made = make_chain("source", tiers=("memory", "disk", "sql"), ttls={"disk": 100, "sql": 60})
    elif kind == "upper":
        made = make_chain("source", tiers=("disk", "sql"))
    elif kind == "chain":
        inner = make_chain("inner", namespace="", tiers=("disk", "sql"), ttls={"sql": 60})
        made = TieredCache([MemoryTier(), inner], namespace="app")
    elif kind == "guarded":
        tier = make_chain("source", tiers=("disk",)).as_tier()._core.stack.guards[0].tier
        made = TieredCache([guarded(tier, deadline=60)], namespace="app")
    else:
        made = make_chain("source", tiers=(kind,))
    made.mset(VALUES)
    if kind == "upper":
        drop_from(made, 1, *VALUES)
    if kind == "chain":
        drop_from(inner, 1, *map(Namespace(("app",)).fold, LARGE))
    return made


def test_an_export_has_a_few_mib_at_a_time_or_one_value(source, reads):
    data, report = archive(source)
    assert {key: entry.value for (_, key), entry in contents(data).items()} == VALUES
    assert report.unread == 0
    assert is_bounded(reads)
    assert max(len(sizes) for sizes in reads) > 150  # and small values are read together


def test_an_import_looks_at_a_few_mib_at_a_time_or_one_value(source, reads, make_chain):
    small = make_chain("small", tiers=("disk",))
    small.mset(dict.fromkeys(VALUES, b""))
    data, _ = archive(small)
    reads.clear()
    report = load(data, source)
    assert (report.already_there + report.stored, is_bounded(reads)) == (len(VALUES), True)
    assert max(len(sizes) for sizes in reads) > 150


def test_of_a_tier_that_tells_no_lengths_few_values_are_read_at_a_time(reads):
    tier = Failing()
    cache = TieredCache([tier], namespace="app")
    cache.mset(VALUES)
    data, _ = archive(cache)
    assert len(contents(data)) == len(VALUES)
    assert max(len(sizes) for sizes in reads) == 16


@pytest.mark.parametrize("answer", [None, TierUnavailable("no right to ask that")])
def test_a_tier_whose_lengths_are_of_no_use_is_read_all_the_same(answer):
    tier = Failing()
    asked = []

    def lengths(keys):
        asked.append(keys)
        if answer is not None:
            raise answer
        return answer

    tier.lengths = lengths
    cache = TieredCache([tier], namespace="app")
    cache.mset(SMALL)
    data, _ = archive(cache)
    assert len(contents(data)) == len(SMALL)
    assert len(asked) == 1
