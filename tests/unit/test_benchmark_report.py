"""`benchmarks.report`: what it reads of runs, figures by their names, its pages and charts, and what others
quote of it."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import pytest
from click.testing import CliRunner

from benchmarks.contest import Contest
from benchmarks.report import missed, quoted
from benchmarks.report.__main__ import main
from benchmarks.report.figures import Figures, Unknown, number, read, span
from benchmarks.report.pages import index, page


def spread(median, low=None, high=None):
    return {"median": median, "low": low or median, "high": high or median}


def target(bound, limit, of, reached, *, holds):
    return {
        "name": "tiercache",
        "bound": bound,
        "limit": limit,
        "of": of,
        "reached": spread(reached),
        "holds": holds,
    }


GET = {
    "name": "memory-get",
    "title": "A hit",
    "thing": "key",
    "rounds": 3,
    "seconds": {"dict": spread(5e-8), "tiercache": spread(3.14159e-7, 3e-7, 4e-7), "other": spread(1e-6)},
    "base": "tiercache",
    "ratios": {"dict": spread(0.125), "other": spread(3.2, 3, 3.5)},
    "absent": {"third": "not installed"},
    "targets": [
        target("at most", 3e-7, None, 3.14159e-7, holds=False),
        target("at least", 2, "other", 3.2, holds=True),
    ],
}
GROWN = {
    "name": "disk-scale",
    "title": "Growth",
    "thing": "key",
    "rounds": 3,
    "unit": "bytes",
    "bytes": {"of 1,000": spread(100.0), "of 10,000": spread(150.0)},
    "base": "of 1,000",
    "ratios": {"of 10,000": spread(1.5)},
    "series": {"mget": [[1000, 100.0], [10000, 150.0]], "get": [[10000, 170.0]]},
}


def run_of(*cases):
    """What ``--benchmark-json`` writes, as far as it is read."""
    told = {"machine": {"cores": "2"}, "versions": {"SQLite": "3.40.1"}}
    return {
        "machine_info": {"node": "a host's name", "told": told},
        "datetime": "2026-01-02T03:04:05",
        "benchmarks": [
            {"fullname": f"benchmarks/test_memory.py::{case.get('name')}", "extra_info": case}
            for case in cases
        ],
    }


@pytest.fixture
def written(tmp_path):
    """Writes data where it can be read from."""

    def write(data, name="run.json"):
        path = tmp_path / name
        path.write_text(json.dumps(data))
        return path

    return write


def test_numbers_and_times_are_told_with_what_counts():
    for value, text in {
        0: "0",
        0.0123: "0.012",
        0.996: "1.0",
        9.96: "10",
        17.8: "18",
        -2.44: "-2.4",
        12345.6: "12,346",
    }.items():
        assert number(value) == text
    assert number(0.8994, 3) == "0.899"
    for value, text in {
        5.5e-8: "55 ns",
        3.1e-7: "0.31 µs",
        2.4e-5: "24 µs",
        0.0123: "12 ms",
        4.94: "4.9 s",
    }.items():
        assert span(value) == text


def test_a_figure_is_found_by_its_name(written):
    figures = read([written(run_of(GET, {"unrelated": 1}, GROWN))])
    assert list(figures.cases) == ["memory-get", "disk-scale"]
    for name, text in {
        "memory-get: tiercache": "0.31 µs",
        "memory-get: other / tiercache": "3.2",  # of the rounds, not 1 / 0.31
        "disk-scale: of 1,000": "100 bytes",
        "disk-scale: of 10,000 / of 1,000": "1.5",
    }.items():
        assert figures.told(name) == text
    for name in ("memory-get", "memory-get: third", "memory-get: other / third", "nothing: dict"):
        with pytest.raises(Unknown, match="no figure"):
            figures.told(name)


def test_a_ratio_is_quoted_only_as_the_report_tells_it(written):
    """Of the medians any two could be divided, and would give another number than the rounds do."""
    pairs = {
        **GET,
        "targets": [
            {**target("at least", 2, "dict", 7.0, holds=True), "name": "other"},
            {
                **target("at most", 1, None, 3e-7, holds=True),
                "or": [{**target("at most", 30, "dict", 21.0, holds=True), "name": "third"}],
            },
            {**target("at most more", 1, "dict", 2e-7, holds=True), "name": "fourth"},
        ],
    }
    figures = read([written(run_of(pairs))])
    assert figures.told("memory-get: dict / other") == "7.0"
    assert figures.told("memory-get: third / dict") == "21"
    for name in (
        "memory-get: other / dict",  # the other way round
        "memory-get: tiercache / other",
        "memory-get: fourth / dict",  # a difference
        "memory-get: tiercache / tiercache",
    ):
        with pytest.raises(Unknown, match="no figure"):
            figures.told(name)


def test_a_report_is_read_again_from_its_own_figures(written):
    figures = read([written(run_of(GET, GROWN))])
    figures.command = "make bench"
    path = written({}, "figures.json")
    path.write_text(figures.as_json())
    assert read([path]).as_json() == figures.as_json()
    assert "a host's name" not in figures.as_json()
    changed = {**GET, "title": "Another"}
    assert read([path, written(run_of(changed))]).cases["memory-get"]["title"] == "Another"
    with pytest.raises(Unknown, match="neither from"):
        read([written({"of": "something else"}, "other.json")])


def test_hit_ratios_are_judged(written):
    def read_with(**above):
        rows = [
            {"policy": name, "mean": 0.5, "above": points, "worst": -1.0} for name, points in above.items()
        ]
        return read([written({"summaries": rows, "figures": [], "traces": [], "disk": None})])

    figures = read_with(**{"lru": 0.0, "s3-fifo": 4.5, "libcachesim S3FIFO": 5.6})
    assert figures.told("hit-ratio: lru") == "50 %"
    assert figures.told("hit-ratio-above-lru: s3-fifo") == "4.5 points"
    verdicts = [target["holds"] for case in figures.cases.values() for target in case["targets"]]
    assert verdicts == [True, False, True]
    assert "missed by 10%" in page(figures, "hit_ratio", None)


def replayed(trace, policy, size, shares, disk=None):
    """A row of what `benchmarks.hit_ratio` prints: 1,000 look-ups, of which ``shares`` hit each tier."""
    tiers = [{"bytes_read": 1000, "bytes_written": 2000, "promotions": 30 * number} for number in range(2)]
    done = {"lookups": 1000, "seconds": 0.5, "tiers": tiers[: len(shares)]}
    return {
        "trace": trace,
        "size": size,
        "policy": policy,
        "memory_ratio": shares[0],
        "hit_ratio": sum(shares),
        "replayed": None if policy == "optimum" else done,
        "seconds": 0.1234,
        "price": 0.00051,
    }


def test_what_replays_come_to_is_told(written):
    traces = [{"trace": name, "lookups": 1000, "keys": 99} for name in ("zipf:0.9", "loop")]
    common = {"value": 1024, "load": {"seconds": 0.2, "price": 0.001}, "processes": 2, "traces": traces}
    alone = {
        **common,
        "disk": None,
        "summaries": [{"policy": "lru", "mean": 0.5, "above": 0, "worst": 0}],
        "figures": [
            replayed(trace["trace"], policy, size, [share])
            for trace in traces
            for size, share in ((10, 0.25), (20, 0.75))
            for policy in ("lru", "s3-fifo", "optimum")
        ],
    }
    chain = {
        **common,
        "disk": 4.0,
        "summaries": [{"policy": "lru", "mean": 0.1, "above": 0, "worst": 0}],
        "figures": [
            replayed(trace["trace"], policy, 10, [0.25, 0.5])
            for trace in traces
            for policy in ("lru", "optimum")
        ],
    }
    paths = [written(alone, "alone.json"), written(chain, "chain.json")]
    figures = read(paths)
    assert figures.told("hit-ratio: lru") == "50 %"  # not the chain's
    assert figures.told("hit-ratio-loop: s3-fifo") == "50 %"
    assert figures.told("hit-ratio-chain: lru, disk") == "50 %"
    text = page(figures, "hit_ratio", None)
    for row in (
        "| 20 | s3-fifo | 75.0 % | 25.0 % | 2,000 bytes | 500 µs | 123 ms | 0.00051 |",
        "| loop | 10 | lru | 25.0 % | 50.0 % | 25.0 % | 30 | 5,000 bytes | 500 µs | 123 ms | 0.00051 |",
        "| loop | 10 | optimum | 25.0 % | 50.0 % | 25.0 % |  |  |  |  |  |",
    ):
        assert row in text
    assert "loop (1,000 look-ups of 99 keys)" in text
    assert "a value of 1,024 bytes takes 200 ms and costs 0.001 (2 replays at once" in text
    # Read once more beside themselves, the cases keep their names.
    report = written({}, "figures.json")
    report.write_text(figures.as_json())
    assert read([report, *paths]).as_json() == figures.as_json()


def test_what_embeddings_take_besides_time_is_read(written):
    rows = ("bytes on disk", "files", "calls for 50 equal queries", "texts embedded of a batch")
    figures = read([written({row: {"langchain": 50, "tiercache": 1.25, "ratio": 40} for row in rows})])
    assert figures.told("embeddings-calls: LocalFileStore") == "50"
    assert figures.told("embeddings-size: LocalFileStore / tiercache") == "40"  # as it was told
    assert figures.told("embeddings-size: tiercache") == "1.2 MB"


def test_pages_tell_what_was_measured_and_what_was_missed(written):
    figures = read([written(run_of(GET, GROWN))])
    figures.command = "make bench"
    first, second = index(figures), page(figures, "memory", "memory.svg")
    assert "$ make bench\n" in first
    assert "Written on 2026-01-02 by\n\n<!-- no-run: takes minutes -->\n```console\n$ make bench\n" in second
    assert "1 of 2 hold" in first
    assert "**no**, missed by 5%" in first
    slow = {**GET, "targets": [target("at most", 1.3, "dict", 14.3, holds=False)]}
    assert "**no**, missed by a factor of 11 |" in index(read([written(run_of(slow))]))
    for row in (
        "| tiercache | 0.31 µs (0.30 µs to 0.40 µs) |  |",
        "| other | 1.0 µs (1.0 µs to 1.0 µs) | 3.2 (3.0 to 3.5) |",
        "| third | not installed |",
        "| 10,000 | 150 bytes | 170 bytes |",
        "| 1,000 | 100 bytes |  |",
    ):
        assert row in second
    assert "at most 0.30 µs; reached: 0.314 µs" in second
    for name, group in re.findall(r"\[[\w-]+\]\((\w+)\.md#([\w-]+)\)", first):
        assert (name, group) in {("memory", "memory-get"), ("memory", "disk-scale")}


def test_of_two_bounds_one_is_enough(written):
    def told(limit, share):
        contest = Contest("some", "Some", unit="bytes")
        contest.add("tiercache", lambda: 1_000.0)
        contest.add("other", lambda: 100.0)
        contest.at_most(limit)
        contest.or_at_most(share, of="other")
        figures = read([written(run_of(contest.run()))])
        (target,) = figures.cases["some"]["targets"]
        assert index(figures).count("| [some]") == 1
        return target["holds"], page(figures, "memory", None)

    for limit, share in ((2000, 8), (800, 20), (2000, 20)):
        assert told(limit, share)[0]
    holds, text = told(800, 5)
    assert not holds
    assert (
        "**Does not hold**: tiercache at most 800 bytes; or tiercache at most 5 x other; "
        "reached: 1,000 bytes (1,000 bytes to 1,000 bytes); 10.0 (10.0 to 10.0); missed by 25%." in text
    )


def test_each_is_told_beside_the_other_of_its_pair(written):
    contest = Contest("some", "Some", unit="bytes", axis="keys a call")
    for size in (1, 10):
        contest.add(f"ours, {size}", lambda: 600.0, point=("ours", size), size=size)
        contest.add(
            f"theirs, {size}", lambda: 1200.0, point=("theirs", size), size=size, beside=f"ours, {size}"
        )
    figures = read([written(run_of(contest.run()))])
    text = page(figures, "memory", None)
    for row in (
        "|  | bytes | times as much as tiercache, likewise |",
        "| ours, 10 | 60 bytes (60 bytes to 60 bytes) |  |",
        "| theirs, 10 | 120 bytes (120 bytes to 120 bytes) | 2.0 (2.0 to 2.0) |",
        "| keys a call | ours | theirs |",
        "| 1 | 600 bytes | 1,200 bytes |",
    ):
        assert row in text


def test_rounds_end_when_their_time_is_over():
    for within, rounds in (({"seconds": 0}, 3), ({}, 20)):
        contest = Contest("some", "Some")
        for name in ("tiercache", "other"):
            contest.add(name, lambda: None, prepare=lambda: ())
        assert contest.run(rounds=20, **within)["rounds"] == rounds


def test_what_a_contest_gives_is_what_the_report_reads(written):
    contest = Contest("some", "Some", size=2)
    contest.add("slow", lambda: sum(range(2000)))
    contest.add("tiercache", lambda: None)
    contest.absent("third", "cannot")
    contest.at_most(1, of="slow")
    figures = read([written(run_of(json.loads(json.dumps(contest.run(rounds=3)))))])
    case = figures.cases["some"]
    assert case["base"] == "tiercache"
    assert case["ratios"]["slow"]["median"] > 1
    assert float(figures.told("some: tiercache / slow")) < 1
    assert "| third | cannot |" in page(figures, "memory", None)


def test_charts_are_drawn_the_same_each_time(written, tmp_path):
    pytest.importorskip("matplotlib", reason="of the extra 'bench'")
    into = tmp_path / "report"
    drawn = []
    for _ in range(2):
        done = CliRunner().invoke(main, [str(written(run_of(GET, GROWN))), "--into", str(into)])
        assert done.exit_code == 0, done.output
        drawn.append((into / "memory.svg").read_bytes())
        assert not (into / "left.svg").exists()
        (into / "left.svg").touch()  # as of a group that is no more
    assert drawn[0] == drawn[1]
    assert "MISSED  memory-get" in done.output
    root = ET.fromstring(drawn[0])  # noqa: S314 - of our own making
    texts = {"".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"memory-get", "dict", "0.31 µs", "disk-scale", "mget", "entries, logarithmic"} <= texts


def test_a_report_that_is_written_elsewhere_refers_to_pages_that_are_there(written, tmp_path):
    pytest.importorskip("matplotlib", reason="of the extra 'bench'")
    into = tmp_path / "some" / "report"
    done = CliRunner().invoke(main, [str(written(run_of(GET))), "--into", str(into)])
    assert done.exit_code == 0, done.output
    pages = re.findall(r"\]\(([^)#:]+)", (into / "README.md").read_text())
    assert len(pages) > 1
    assert [name for name in pages if not (into / name).exists()] == []


# -- figures that pages quote ----------------------------------------------------------------------

TEXT = """A hit takes 0.31 µs<!-- figure: memory-get: tiercache -->, which is
3.2<!-- figure: memory-get: other / tiercache --> times less; what grows (by
100 bytes<!-- figure: disk-scale: of 1,000 -->) takes 18<!-- figure: memory-get: dict --> more.
"""


def test_figures_of_a_page_become_those_of_the_report(written):
    figures = read([written(run_of(GET, GROWN))])
    assert quoted.renewed(TEXT, figures) == TEXT.replace("18<", "50 ns<")
    older = TEXT.replace("0.31 µs", "1,234 ms").replace("100 bytes", "0.10 MB")
    assert quoted.renewed(older, figures) == quoted.renewed(TEXT, figures)
    assert list(quoted.quotations(TEXT))[:3] == [
        ("0.31 µs", "memory-get: tiercache"),
        ("3.2", "memory-get: other / tiercache"),
        ("100 bytes", "disk-scale: of 1,000"),
    ]
    with pytest.raises(Unknown):
        quoted.renewed(TEXT, Figures())


def test_a_name_behind_no_figure_is_an_error():
    with pytest.raises(ValueError, match="no figure"):
        quoted.quotations("some µs<!-- figure: memory-get: tiercache -->")


def test_speed_without_a_name_is_found():
    assert quoted.unnamed(TEXT) == []
    for line in (
        "it takes ~0.3 µs",
        "3 times faster",
        "12 ns",
        "2.4 points of hit ratio",
        "2 times as fast as",
    ):
        (found,) = quoted.unnamed(f"all is well\n{line}\n")
        assert found in line
    assert quoted.unnamed('deadline = "250ms"') == []


def test_speed_in_words_is_found_too():
    for text in (
        "which costs a third of the time",
        "SQLite takes two\n  thirds of that call",
        "it is as much as a sixth of the call",
        "and took four and a half times as long",
        "a bit less than twice as\nlong as before",
        "it is half as fast",
        "that wins up to a sixth",
        "a million are read at nearly twice what ten thousand are",
        "several times the cost for each entry",
        "20 % of the time",
        "15 % faster",
        "`os.stat`, about a microsecond",
        "a fraction of a microsecond",
    ):
        assert len(quoted.unnamed(f"| all | well |\n\n* {text}, and so on")) == 1, text
    for text in (
        "twice as long after each probe",
        "half of the keys; a key that comes twice",
        "who does not take over would pay twice",
        "shortened by up to a quarter",
        "a list takes eight times the bytes",
        "it costs time\n\nhalf of it",
    ):
        assert quoted.unnamed(text) == [], text


# -- targets that are missed -----------------------------------------------------------------------

EMPTY = f"Before.\n\n{missed._BEGIN}\n{missed._END}\n\nAfter.\n"


def test_a_page_names_what_is_missed_and_keeps_why(written):
    figures = read([written(run_of(GET, GROWN))])
    page = missed.renewed(EMPTY, figures)
    (row,) = (line for line in page.splitlines() if "memory-get" in line)
    assert row == (
        "| [memory-get](../benchmarks/memory.md#memory-get) | tiercache at most 0.30 µs "
        "| 0.314 µs (0.314 µs to 0.314 µs) |  |"
    )
    assert missed.unexplained(page) == ["memory-get"]
    why = "50 ns<!-- figure: memory-get: dict --> is the floor"
    explained = page.replace("|  |\n<!--", f"| {why} |\n<!--")
    assert missed.unexplained(explained) == []
    assert missed.reasons(explained) == {"memory-get": why}
    assert quoted.renewed(explained, figures) == explained
    assert quoted.unnamed(explained) == []
    assert quoted.unnamed(explained.replace("<!-- figure: memory-get: dict -->", "")) == ["50 ns"]
    slower = {**GET, "targets": [target("at most", 3e-7, None, 6e-7, holds=False)]}
    assert f"| 0.600 µs (0.600 µs to 0.600 µs) | {why} |" in missed.renewed(
        explained, read([written(run_of(slower))])
    )


def test_what_is_reached_leaves_the_page(written):
    page = missed.renewed(EMPTY, read([written(run_of(GET, GROWN))]))
    held = {**GET, "targets": [target("at least", 2, "other", 3.2, holds=True)]}
    assert missed.reasons(missed.renewed(page, read([written(run_of(held, GROWN))]))) == {}
    assert missed.renewed("No table here.", read([written(run_of(GET))])) == "No table here."
