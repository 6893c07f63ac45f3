"""`tiercache bench`: what it measures, on which tiers, and that nothing of it stays."""

from __future__ import annotations

import json
import re
import resource

import pytest
from shell import run

from tiercache import DiskTier, SQLTier, TieredCache, register_tier
from tiercache.cli import _memory
from tiercache.cli._bench import CALLS, Bench, Failure
from tiercache.cli._memory import free_memory
from tiercache.testing import DictTier


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(
        'namespace = "app"\ncodec = "json"\n[[tiers]]\ntype = "memory"\n'
        '[[tiers]]\ntype = "disk"\ndirectory = "disk"\n'
        f'[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/shared.sqlite"\n'
    )
    return path


def left_behind(tmp_path):
    """The keys of all namespaces in both tiers."""
    found = []
    for tier in (DiskTier(tmp_path / "disk"), SQLTier(f"sqlite:///{tmp_path}/shared.sqlite")):
        found += tier.scan("")[0]
        tier.close()
    return found


def test_every_tier_and_the_chain_are_measured_and_nothing_stays(config, tmp_path):
    with TieredCache.from_config(config) as cache:
        cache.set("key", "of the application")
    before = left_behind(tmp_path)
    done = run(
        "bench",
        "-c",
        config,
        "--seconds",
        "0.001",
        "--batch",
        "7",
        "--size",
        "100",
        "--size",
        "6KB",
        "--json",
    )
    assert (done.code, done.err) == (0, "")
    report = json.loads(done.out)
    assert (report["batch"], report["failures"]) == (7, [])
    measured = {(one["where"], one["size"], one["call"]) for one in report["figures"]}
    places = ("memory", "disk", "sql", "chain")
    assert measured == {(place, size, call) for place in places for size in (100, 6_000) for call in CALLS}
    for one in report["figures"]:
        assert one["calls"] >= 5
        assert 0 < one["median"] <= one["p95"]
        assert one["keys"] == (7 if one["call"].startswith("m") else 1)
        assert one["keys_per_second"] > 0
    assert left_behind(tmp_path) == before
    assert len(before) == 2  # in each of the two tiers


def test_a_table_in_a_pipe(config):
    done = run("bench", "-c", config, "--seconds", "0.001", "--batch", "2", "--size", "1")
    heading, *rows = done.out.splitlines()
    assert heading.split() == ["tier", "values", "call", "keys", "median", "p95", "keys/s"]
    assert [row.split()[0] for row in rows] == [
        place for place in ("memory", "disk", "sql", "chain") for _ in CALLS
    ]
    assert "\x1b" not in done.out


def test_what_was_written_goes_also_when_it_is_interrupted(config, tmp_path):
    with TieredCache.from_config(config) as cache:
        run_ = Bench(cache, sizes=[100], batch=5, seconds=0.001).run()
        while next(run_).where != "sql":
            pass
        assert left_behind(tmp_path)
        run_.close()  # as Ctrl-C does
        assert left_behind(tmp_path) == []


def test_a_tier_that_fails_is_told_and_the_others_are_measured(tmp_path):
    path = tmp_path / "tiercache.toml"
    path.write_text(
        '[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "redis"\nurl = "redis://u:swordfish@127.0.0.1:1/0"\n'
    )
    done = run("bench", "-c", path, "--seconds", "0.001", "--batch", "2", "--size", "10", "--json")
    assert done.code == 1
    report = json.loads(done.out)
    assert {(one["where"], one["call"]) for one in report["failures"]} == {
        *(("redis", call) for call in CALLS),
        ("chain", "set"),
        ("chain", "mset"),
    }
    reasons = {one["call"]: one["reason"] for one in report["failures"] if one["where"] == "redis"}
    for reason in reasons.values():
        assert "Connection refused" in reason
    assert set(reasons.values()) == {reasons["set"]}, "there is one"
    assert "redis, set, mset, get, mget of 10 B: " in done.err
    assert re.search(r"chain, set, mset of 10 B: not taken by redis \(.*Connection refused", done.err)
    assert "swordfish" not in done.out + done.err


def test_values_that_a_tier_does_not_take_are_told(tmp_path):
    with TieredCache([DiskTier(tmp_path / "small", max_bytes="200KB")]) as cache:
        found = list(Bench(cache, sizes=[300_000], batch=2, seconds=0.001).run())
    assert [type(one) for one in found] == [Failure] * 8
    assert "rejected" in found[0].reason


@pytest.mark.usefixtures("registries")
def test_a_tier_that_cannot_be_read_is_told_why(tmp_path):
    register_tier("unread", Unread)
    path = tmp_path / "tiercache.toml"
    path.write_text('[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "unread"\n')
    done = run("bench", "-c", path, "--seconds", "0.001", "--batch", "2", "--size", "10")
    assert done.code == 1
    told = [line for line in done.err.splitlines() if ", get" in line]
    assert told == ["tiercache: dict, get, mget of 10 B: OSError"]


class Unread(DictTier):
    def mget(self, keys):
        raise OSError("no such luck")


def test_more_than_a_tier_or_the_memory_holds_is_refused_at_once(tmp_path, monkeypatch):
    path = tmp_path / "tiercache.toml"
    tiers = '[[tiers]]\ntype = "memory"\nmax_bytes = "1MiB"\n[[tiers]]\ntype = "disk"\npath = "disk"\n'
    path.write_text(tiers + 'max_bytes = "8MiB"\n')
    monkeypatch.setattr(Bench, "run", None)
    done = run("bench", "-c", path, "--size", "1KB", "--size", "9MiB", "--batch", "1")
    assert (done.code, done.out) == (2, "")
    assert "no tier takes a value of 9.0 MiB: the largest has room for 8.0 MiB" in done.err
    for flags in (["--size", "20GiB"], ["--batch", "1000000000", "--size", "6KB"]):
        done = run("bench", "-c", path, *flags)
        assert (done.code, done.out) == (2, "")
        assert re.search(r"values of .* need about .* of memory, and there are .*; give a smaller", done.err)


def test_free_memory_is_at_most_what_a_process_may_have():
    free = free_memory()
    assert 0 < free <= _memory._machine() + (1 << 30)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 50, limits[1]))
    try:
        assert 0 < _memory._limit() < 1 << 50
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.parametrize(
    "flags",
    [
        ["--size", "large"],
        ["--size", "-1"],
        ["--batch", "0"],
        *(["--seconds", s] for s in ("0", "nan", "inf", "61")),
    ],
)
def test_wrong_flags(config, flags):
    done = run("bench", "-c", config, *flags)
    assert done.code == 2
    assert flags[0] in done.err
