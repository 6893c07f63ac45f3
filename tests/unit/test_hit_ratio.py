"""`benchmarks.hit_ratio`: what is read of each format, the optimum, what the real tiers do with small traces,
and the command."""

from __future__ import annotations

import gzip
import json
import lzma
import random
import struct
from collections import OrderedDict
from itertools import pairwise

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.hit_ratio import optimum, simulators, synthetic
from benchmarks.hit_ratio.__main__ import main
from benchmarks.hit_ratio.replay import replay
from benchmarks.hit_ratio.study import OPTIMUM, Costs, figures, summaries
from benchmarks.hit_ratio.traces import Trace, Unreadable, read

NUMBERS = [7, 8, 7, 4_000_000_000, 0]
WORDS = list(map(str, NUMBERS))

# -- formats ---------------------------------------------------------------------------------------

FILES = {
    "keys": (b"GET /a b\nGET /\xc3\xa4\r\n\n7\nGET /a b", ["GET /a b", "GET /ä", "7", "GET /a b"]),
    "lirs": (b"7\n8\n*\n 7 \n\n4000000000\n0\n", WORDS),
    "arc": (b"7 2 0 0\n7 1 0 1\n\n4000000000 1 0 2\n0 1 0 3\n", WORDS),
    "binary32": (struct.pack(">5I", *NUMBERS), WORDS),
    "binary64": (struct.pack(">5Q", *NUMBERS), WORDS),
}
PACKERS = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("format_", FILES)
def test_each_format_is_read(tmp_path, format_, suffix):
    data, keys = FILES[format_]
    path = tmp_path / f"some.trace{suffix}"
    path.write_bytes(PACKERS[suffix](data))
    assert read(path, format=format_) == Trace("some", keys)
    assert read(path, format=format_, most=2).keys == keys[:2]
    if format_ != "binary64":  # which nothing tells from the other
        assert read(path).keys == keys


def test_text_longer_than_what_is_looked_at_is_told_from_numbers(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("ä" * 5000 + "\n1\n")
    assert read(path).keys == ["ä" * 5000, "1"]
    path.write_bytes(b"x" + "ä".encode() * 5000)  # the end of what is looked at cuts through a character
    assert read(path).keys == ["x" + "ä" * 5000]
    path.write_text("\n".join(map(str, range(5000))))
    assert read(path).keys == list(map(str, range(5000)))
    path.write_bytes(struct.pack(">70000I", *range(70000)))  # more than is read at a time
    assert read(path).keys == list(map(str, range(70000)))


@pytest.mark.parametrize(
    ("name", "data", "format_", "told"),
    [
        ("a", b"", None, "holds no lookup"),
        ("a", b"\n\n", None, "holds no lookup"),
        ("a", b"7\nseven\n", "lirs", "line 2 is no number: b'seven'"),
        ("a", b"7 2 0 0\n7 2\n", "arc", "line 2 has 2 fields, and 4 are wanted"),
        ("a", b"7 two 0 0\n", "arc", "line 1 is no number: b'two'"),
        ("a", bytes(7), "binary32", "ends within a number of 4 bytes"),
        ("a", b"\xff\n", "keys", "can't decode"),
        ("a.gz", gzip.compress(random.Random(1).randbytes(99))[:-20], None, "ended"),
        ("a.gz", gzip.compress(b"")[:10] + b"\xff" * 9, None, "invalid"),
        ("a.xz", b"no xz", None, "not supported"),
    ],
    # Those made of the bytes would tell the time at which gzip packed them.
    ids=["none", "blank", "word", "fields", "count", "part", "characters", "cut", "damaged", "packed"],
)
def test_what_is_no_trace_is_told(tmp_path, name, data, format_, told):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(Unreadable, match=told) as caught:
        read(path, format=format_)
    assert str(path) in str(caught.value)


# -- traces that are made --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*synthetic.NAMES, "zipf"])
def test_a_made_trace_is_the_same_at_every_run(name):
    trace = synthetic.make(name, keys=500, accesses=3000)
    assert trace == synthetic.make(name, keys=500, accesses=3000)
    assert trace.name == name
    assert len(trace.keys) == 3000
    assert trace.distinct > 200


def test_made_traces_are_what_they_are_called():
    loop = synthetic.make("loop", keys=5, accesses=12).keys
    assert loop == list("012340123401")
    zipf = synthetic.make("zipf:1.0", keys=100, accesses=100_000).keys
    assert zipf.count("0") / zipf.count("9") == pytest.approx(10, rel=0.1)
    assert synthetic.make("zipf:0.8", keys=100, accesses=9999).keys.count("0") < zipf[:9999].count("0")
    scans = synthetic.make("scans", keys=100, accesses=40_000).keys
    assert [int(key) for key in scans if int(key) >= 100] == list(range(100, 10_100))
    night = synthetic.make("day-night", keys=100, accesses=60_000).keys
    halves = [int(key) < 50 for key in night]
    assert [number for number, (was, now) in enumerate(pairwise(halves), 1) if was != now] == [20_000, 40_000]
    assert synthetic.make("zipf:x") is synthetic.make("no-such") is None


# -- the optimum -----------------------------------------------------------------------------------


def most_hits(keys, size, held=frozenset()):
    """Every choice of every victim, tried."""
    if not keys:
        return 0
    first, *rest = keys
    if first in held:
        return 1 + most_hits(rest, size, held)
    if len(held) < size:
        return most_hits(rest, size, held | {first})
    return max(most_hits(rest, size, held - {victim} | {first}) for victim in held)


@given(keys=st.lists(st.sampled_from("abcde"), max_size=10), size=st.integers(1, 4))
def test_nothing_has_more_hits_than_the_optimum_nor_it_more_than_there_are(keys, size):
    assert optimum.hits(keys, size) == most_hits(keys, size)


# -- the tiers -------------------------------------------------------------------------------------


def lru_hits(keys, size):
    held = OrderedDict()
    hits = 0
    for key in keys:
        if key in held:
            hits += 1
        elif len(held) == size:
            held.popitem(last=False)
        held[key] = None
        held.move_to_end(key)
    return hits


def test_a_memory_tier_replays_a_trace():
    trace = synthetic.make("zipf:0.9", keys=300, accesses=3000)
    done = replay(trace, policy="lru", size=30, value=10)
    assert done.lookups == 3000
    assert done.hits == done.tiers[0].hits == lru_hits(trace.keys, 30)
    misses = 3000 - done.hits
    (memory,) = done.tiers
    assert (memory.name, memory.entries, memory.promotions) == ("memory", 30, 0)
    assert memory.evictions == misses - 30
    assert (memory.bytes_read, memory.bytes_written) == (10 * done.hits, 10 * misses)
    assert done.moved == 10 * misses
    assert done.seconds > 0


def test_what_memory_evicted_comes_back_from_the_disk():
    trace = Trace("twice", [*"abcdefgh", *"abcdefgh", "h"])
    done = replay(trace, policy="lru", size=2, disk=1000, value=10)
    memory, disk = done.tiers
    assert (memory.hits, disk.hits, done.hits) == (1, 8, 9)
    assert (memory.promotions, disk.promotions) == (8, 0)
    assert (memory.bytes_written, disk.bytes_written, disk.bytes_read) == (160, 80, 80)
    assert done.moved == 320


def test_the_figures_of_a_small_trace():
    trace = Trace("loop", [str(number % 20) for number in range(200)])
    costs = Costs(seconds=1000.0, price=0.5)
    found = list(figures(trace, 10, policies=("lru", "s3-fifo"), disk=None, value=10, costs=costs))
    of = {figure.policy: figure for figure in found}
    assert of["lru"].hit_ratio == 0
    assert of["s3-fifo"].hit_ratio == 9 * 9 / 200  # all but the first round, for nine tenths of the tier
    assert of[OPTIMUM].hit_ratio == optimum.hits(trace.keys, 10) / 200
    assert of["lru"].price == 0.5
    assert of["s3-fifo"].price == pytest.approx(0.5 * (1 - 81 / 200))
    assert of["lru"].seconds == pytest.approx(1000 + of["lru"].replayed.seconds / 200)
    assert of[OPTIMUM].seconds is of[OPTIMUM].price is of[OPTIMUM].replayed is None
    summed = {summary.policy: summary for summary in summaries(found)}
    assert (summed["s3-fifo"].mean, summed["s3-fifo"].above) == (81 / 200, pytest.approx(40.5))
    assert (summed["lru"].above, summed["lru"].worst) == (0, 0)
    assert summaries([of[OPTIMUM]]) == []


def test_the_optimum_of_a_chain_has_the_room_of_both_tiers():
    trace = Trace("loop", [str(number % 20) for number in range(200)])
    costs = Costs(seconds=1.0, price=0)
    *_, best = figures(trace, 5, policies=("lru",), disk=10, value=10, costs=costs)
    assert best.policy == OPTIMUM
    assert best.memory_ratio == optimum.hits(trace.keys, 5) / 200
    assert best.hit_ratio == optimum.hits(trace.keys, 15) / 200 > best.memory_ratio


def test_the_worst_case_is_the_lowest_of_all():
    traces = [Trace("loop", list("abc" * 9)), Trace("one", list("abacadaeafag"))]
    costs = Costs(1, 0)
    found = [
        figure
        for trace in traces
        for figure in figures(trace, 2, policies=("lru", "fifo"), disk=None, value=1, costs=costs)
    ]
    fifo = next(summary for summary in summaries(found) if summary.policy == "fifo")
    ratios = {(figure.trace, figure.policy): figure.memory_ratio for figure in found}
    gaps = [100 * (ratios[trace.name, "fifo"] - ratios[trace.name, "lru"]) for trace in traces]
    assert fifo.above == pytest.approx(sum(gaps) / 2)
    assert fifo.worst == min(gaps) < max(gaps)


@pytest.mark.parametrize("name", ["zipf:0.9", "loop", "scans"])
def test_s3_fifo_is_within_a_point_of_its_authors_simulator(name):
    pytest.importorskip("libcachesim")
    trace = synthetic.make(name, keys=1000, accesses=10_000)
    ours = replay(trace, policy="s3-fifo", size=100).hits
    assert abs(ours - simulators.hits("S3FIFO", trace.keys, 100)) <= 100


# -- the command -----------------------------------------------------------------------------------


def call(*words):
    return CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)


@pytest.fixture
def trace_file(tmp_path):
    path = tmp_path / "small.trace.gz"
    path.write_bytes(gzip.compress(b"".join(b"%d\n" % (number % 20) for number in range(200))))
    return path


def test_json_has_every_figure(trace_file):
    done = call(trace_file, "--size", "50%", "--size", "5", "--policy", "lru", "--policy", "fifo", "--json")
    assert done.exit_code == 0
    data = json.loads(done.stdout)
    cases = {(figure["trace"], figure["size"], figure["policy"]) for figure in data["figures"]}
    assert cases >= {("small", size, policy) for size in (5, 10) for policy in ("lru", "fifo", OPTIMUM)}
    first = data["figures"][0]
    assert (first["policy"], first["hit_ratio"]) == ("lru", 0)
    assert first["replayed"]["tiers"][0]["bytes_written"] == 200 * 1024
    assert [summary["policy"] for summary in data["summaries"]][:2] == ["lru", "fifo"]
    assert data["traces"] == [{"trace": "small", "lookups": 200, "keys": 20}]
    assert data["load"] == {"seconds": 0.2, "price": 0}
    assert (data["value"], data["disk"], data["processes"]) == (1024, None, 1)


def test_traces_of_one_name_are_told_apart(trace_file):
    words = ("--accesses", 50, "--size", 5, "--policy", "lru", "--json")
    data = json.loads(call(trace_file, trace_file, "loop", *words).stdout)
    assert [trace["trace"] for trace in data["traces"]] == ["small", "small-2", "loop"]
    assert {figure["trace"] for figure in data["figures"]} == {"small", "small-2", "loop"}


def test_several_processes_find_out_what_one_does(trace_file):
    def found(processes):
        words = ("--size", "5", "--size", "10", "--policy", "lru", "--json", "--processes", processes)
        data = json.loads(call("loop", trace_file, "--accesses", "300", *words).stdout)
        rows = [(row["trace"], row["size"], row["policy"], row["hit_ratio"]) for row in data["figures"]]
        return rows, data["summaries"]

    assert found(2) == found(1)


def test_tables_show_the_tiers_and_the_optimum(trace_file):
    done = call(trace_file, "--size", "10", "--policy", "s3-fifo", "--disk", 3, "--load-price", "2")
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "small: 200 lookups of 20 keys"
    assert lines[1].split()[:5] == ["entries", "policy", "memory", "disk", "misses"]
    assert lines[2].split()[:6] == ["10", "s3-fifo", "40.50%", "49.50%", "10.00%", "99"]
    assert lines[2].split()[-1] == "0.2"
    assert any(line.split()[:2] == ["10", OPTIMUM] for line in lines)
    assert "All traces" not in done.stdout  # LRU, which the others are compared with, was left out


def test_a_made_trace_is_cut_as_a_file_is():
    done = call("loop", "--accesses", 50, "--size", 5, "--policy", "lru")
    assert done.stdout.startswith("loop: 50 lookups of 50 keys\n")
    assert "All traces and sizes" in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ([], 2, "Missing argument"),
        (["no-such-file"], 2, "no such file, and no trace that is made: zipf:0.8, "),
        (["."], 1, "Is a directory"),
        (["loop", "--size", "0"], 2, "'0' is no number of entries"),
        (["loop", "--size", "2.5"], 2, "'2.5' is no number of entries"),
        (["loop", "--size", "100%"], 2, "'100%' is no number of entries"),
        (["loop", "--size", "nan"], 2, "'nan' is no number of entries"),
        (["loop", "--disk", "-1"], 2, "'-1' is no number of zero or more"),
        (["loop", "--load-price", "nan"], 2, "'nan' is no number of zero or more"),
        (["loop", "--value", "many"], 2, "'many' is no size; give bytes or text such as"),
        (["loop", "--load-time", "soon"], 2, "'soon' is no duration"),
        (["loop", "--policy", "mru"], 2, "s3-fifo"),
    ],
)
def test_a_wrong_word_is_told(words, code, told):
    done = call(*words)
    assert done.exit_code == code
    assert told in done.stderr


def test_a_file_that_holds_no_trace_is_told(tmp_path):
    path = tmp_path / "empty"
    path.touch()
    done = call(path)
    assert (done.exit_code, done.stderr) == (1, f"Error: {path}: holds no lookup\n")
