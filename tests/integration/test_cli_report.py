"""`tiercache report` over caches that were used: what it tells, what it leaves out, and what may go wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from rights import obeying_rights
from servers.valkey import free_port
from shell import in_a_terminal, run

from tiercache import TieredCache, TokenUsage, report_usage
from tiercache.accounts import LOADER, PICO, TOTAL, Account, Deposit

CONFIG = """
namespace = "shop"
prices = "prices.toml"
model = "a-model"

[budget]
per_day = 0.5

[[tiers]]
type = "memory"

[[tiers]]
type = "disk"
path = "hidden-folder"

[[tiers]]
type = "sql"
url = "sqlite:///shared.db"
"""
PRICES = 'version = 1\ncurrency = "EUR"\n[models.a-model]\ninput = 1000\noutput = 0\n'
KEY, VALUE = "a-private-key", b"a private value"


def load(_key):
    report_usage(TokenUsage(input=100))  # 0.1 EUR
    return VALUE


def day(back):
    return (datetime.now(UTC).date() - timedelta(days=back)).isoformat()


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiercache.toml").write_text(CONFIG)
    (tmp_path / "prices.toml").write_text(PRICES)
    return tmp_path / "tiercache.toml"


@pytest.fixture
def used(config):
    """A cache of three entries, which had nine hits in memory today, and 15 on disk three days ago."""
    with TieredCache.from_config(config) as cache:
        for key in (KEY, "two", "three"):
            cache.get_or_load(key, load)
        for _ in range(9):
            cache.get(KEY)
        paid = {"calls": 6, "failed": 1, "texts": 5, "money": 2 * PICO, "micros": 10_000_000}
        rows = [
            (Account(day(3), "shop", "a-model", LOADER), paid),
            (Account(day(3), "shop", "", TOTAL), {"money": 2 * PICO}),
            (Account(day(3), "shop/inner", "a-model", "disk"), {"served": 15}),
        ]
        cache._stack.books.place._store.post(Deposit("another", 1, day(3), rows))
    return config


def told(*arguments):
    done = run("report", *arguments, "--json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_each_tier_is_told_with_its_entries_hits_and_times(used):
    data = told(used)
    assert [(tier["name"], tier["kind"], tier["state"], tier["entries"]) for tier in data["tiers"]] == [
        ("memory", "memory", "memory", None),  # no process runs
        ("disk", "disk", "listed", 3),
        ("sql", "sql", "listed", 3),
    ]
    for tier in data["tiers"][1:]:
        assert 3 * len(VALUE) < tier["bytes"] < 1000
        assert tier["whole"] is True
        assert tier["hit_ratio"] == 0
        for latency in (tier["read_latency"], tier["write_latency"]):
            assert 0 < latency["p50"] <= latency["p95"] <= latency["p99"]
    memory = data["tiers"][0]
    assert memory["hit_ratio"] == 9 / 12
    found = data["statistics"]
    loads = found["sum"]["load_latency"]
    assert 0 < loads["p50"] <= loads["p95"] <= loads["p99"]
    counted = found["sum"]["tiers"][0]
    assert memory["read_seconds_per_key"] == counted["read_seconds"] / 12 > 0
    written = counted["sets"] + counted["promotions"]
    assert memory["write_seconds_per_key"] == counted["write_seconds"] / written > 0
    assert (found["processes"], found["running"]) == (1, 0)
    assert (found["sum"]["hits"], found["sum"]["misses"], found["sum"]["hit_ratio"]) == (9, 3, 0.75)
    assert (found["saved"]["calls"], data["problems"], data["hints"]) == (9, [], [])


def test_one_time_saved_is_told_and_it_is_the_ledgers(used):
    said = run("report", used).out
    assert "9 calls saved\n" in said
    assert "of loading" not in said
    assert "noting in the ledger" in said
    with_tables = (
        used.read_text().replace('prices = "prices.toml"', "").replace("[budget]\nper_day = 0.5", "")
    )
    used.write_text(with_tables)  # which keeps no ledger
    said = run("report", used).out
    assert "9 calls saved, about " in said
    assert "of loading (estimated)" in said
    assert "noting in the ledger" not in said


@pytest.mark.parametrize(
    "tiers", ["", '[[tiers]]\ntype = "disk"\npath = "hidden-folder"\nread_only = true\n']
)
def test_a_ledger_that_each_process_has_for_itself_is_no_empty_one(used, tiers):
    used.write_text(CONFIG.partition("[[tiers]]")[0] + '[[tiers]]\ntype = "memory"\n' + tiers)
    data = told(used)
    assert (data["ledger"], data["budget"]) == (None, None)
    assert any("each process keeps one in its memory" in hint for hint in data["hints"])


def test_a_clock_that_was_years_ahead_does_not_stretch_the_days(used):
    with TieredCache.from_config(used) as cache:
        rows = [(Account("9999-12-31", "shop", "a-model", LOADER), {"calls": 1, "texts": 1})]
        cache._stack.books.place._store.post(Deposit("ahead", 1, day(0), rows))
    assert [one["day"] for one in told(used)["ledger"]["days"]] == [
        day(3),
        day(2),
        day(1),
        day(0),
        "9999-12-31",
    ]


def test_memory_is_what_running_processes_have_told_of(used):
    with TieredCache.from_config(used) as cache:
        cache.get(KEY)
        cache._stack.sharing.publish(5.0)
        data = told(used)
    assert data["statistics"]["running"] == 1
    assert data["tiers"][0]["entries"] == 1
    assert data["tiers"][0]["bytes"] is None or data["tiers"][0]["bytes"] > 0


def test_days_are_those_of_the_ledger_with_none_left_out(used):
    data = told(used)["ledger"]
    assert [one["day"] for one in data["days"]] == [day(3), day(2), day(1), day(0)]
    old, _, empty, today = data["days"]
    assert (old["hit_ratio"], old["served_by"], old["failed"]) == (15 / 20, {"disk": 15}, 1)
    assert (empty["hit_ratio"], empty["served_by"], empty["calls"]) == (None, {}, 0)
    assert (today["hit_ratio"], today["served_by"]) == (9 / 12, {"memory": 9})
    assert (Decimal(today["money_spent"]), Decimal(today["money_saved"])) == (Decimal("0.3"), Decimal("0.9"))
    with TieredCache.from_config(used) as cache:
        said = cache.ledger()
    total = said.total.as_dict()
    assert {name: data["total"][name] for name in total} == total
    assert data["total"]["hit_ratio"] == 24 / 32
    for name in ("tier", "model", "namespace"):
        rows = {row[name]: row for row in data[f"{name}s"]}
        assert rows == {row.as_dict()[name]: row.as_dict() for row in said.by(name)}


def test_since_bounds_the_ledger_and_not_the_budget(used):
    data = told(used, "--since", day(1))
    assert [one["day"] for one in data["ledger"]["days"]] == [day(0)]
    assert data["since"] == day(1)
    for days in (data, told(used)):
        spent = days["budget"]
        assert (spent["day"], spent["per_day"], spent["spent"], spent["share"]) == (day(0), "0.5", "0.3", 0.6)
        assert (spent["action"], spent["warn_at"], spent["currency"]) == ("block", [0.75, 0.9], "EUR")
    for wrong in ("never", day(-1), "-3d"):
        done = run("report", used, "--since", wrong)
        assert (done.code, "since" in done.err) == (1, True), done.err


def test_as_many_entries_are_counted_as_was_asked(config):
    with TieredCache.from_config(config) as cache:
        cache.mset({f"key {number}": b"1" for number in range(25)})
    some = told(config, "--count", "10")["tiers"][1]
    assert 10 <= some["entries"] < 25
    assert some["whole"] is False
    assert "> 10" in run("report", config, "--count", "10").out
    none = told(config, "--count", "0")["tiers"][1]
    assert (none["entries"], none["bytes"], none["state"]) == (None, None, "unlisted")


def test_look_ups_that_nobody_loaded_are_in_the_ratio_of_their_day(used):
    with TieredCache.from_config(used) as cache:
        for _ in range(4):
            cache.get("missing")
    data = told(used)["ledger"]
    today = data["days"][-1]
    assert (today["missed"], today["hit_ratio"], today["texts"]) == (7, 9 / 16, 3)
    assert data["days"][0]["missed"] == 0
    assert data["total"]["hit_ratio"] == 24 / 36
    text = run("report", used).out
    assert f"{day(0)}      16           9  56.2%" in text
    assert "total           36          24  66.7%" in text
    run("report", used, "--html", "page.html")
    page = Path("page.html").read_text()
    assert "56.2% from memory, 56.2% from all tiers" in page
    assert '<td role="cell" data-label="hit ratio">66.7%</td>' in page


def test_a_day_with_nothing_but_misses_is_told(config):
    with TieredCache.from_config(config) as cache:
        cache.get("missing")
    data = told(config)
    assert [(one["missed"], one["hit_ratio"]) for one in data["ledger"]["days"]] == [(1, 0.0)]
    assert f"{day(0)}       1           0   0.0%" in run("report", config).out


def test_text_has_the_same_numbers(used):
    done = run("report", used)
    assert (done.code, done.err) == (0, "")
    for piece in (
        "Report of shop",
        "9 hits and 3 misses (75.0%) in 1 process (0 running)",
        f"{day(3)}      20          15  75.0%",
        "0.30 of 0.50 EUR spent (60.0%)",
        "estimated",
        "\nread sql ",
        "\nwrite disk ",
        "\nloader ",
        "of memory are estimated from samples",
    ):
        assert piece in done.out, (piece, done.out)
    code, shown = in_a_terminal("report", used)
    assert code == 0
    assert "entries" in shown
    assert run("report", "-c", used).out.splitlines()[2:] == done.out.splitlines()[2:]


def test_what_is_not_kept_is_told_with_how_to_turn_it_on(tmp_path):
    path = tmp_path / "plain.toml"
    path.write_text(
        f'[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/s.db"\n'
    )
    data = told(path)
    assert (data["statistics"], data["ledger"], data["budget"]) == (None, None, None)
    first, second = data["hints"]
    assert "stats_file" in first
    assert "ledger = true" in second
    done = run("report", path)
    assert done.code == 0
    assert "stats_file" in done.err
    path.write_text(f'ledger = true\n[[tiers]]\ntype = "disk"\npath = "{tmp_path}/d"\n')
    assert told(path)["hints"] == [
        "No process of this machine has shared its statistics yet.",
        f"The ledger has counted nothing since {day(30)} yet.",
    ]


DOWN = """
ledger = true
[[tiers]]
type = "disk"
path = "hidden-folder"
[[tiers]]
type = "redis"
url = "redis://user:hunter2@127.0.0.1:{port}/0"
"""


def test_a_tier_that_is_down_is_told_and_the_others_too(config):
    with TieredCache.from_config(config) as cache:
        cache.set("key", VALUE)
    port = free_port()
    config.write_text(DOWN.format(port=port).replace("\nledger", '\nnamespace = "shop"\nledger'))
    done = run("report", config, "--json")
    data = json.loads(done.out)
    disk, redis = data["tiers"]
    assert (done.code, disk["entries"], disk["state"]) == (1, 1, "listed")
    assert (redis["state"], redis["entries"]) == ("down", None)
    assert redis["why"]
    assert data["problems"] == [f"The tier redis {redis['why']}", "The ledger could not be read"]
    shown = run("report", config)
    assert (shown.code, run("report", config, "--json").code) == (1, 1)
    written = run("report", config, "--html", "page.html")
    page = Path("page.html").read_text()
    assert written.code == 1
    assert "Not whole" in page
    for text in (done.out, shown.out, page):
        assert not any(secret in text for secret in ("hunter2", "127.0.0.1", str(port)))
    assert "hunter2" not in done.err + shown.err


def test_statistics_that_cannot_be_read_are_one_of_the_problems(used):
    (used.parent / "hidden-folder" / "stats.db").write_bytes(b"no database " * 400)
    done = run("report", used, "--json")
    data = json.loads(done.out)
    assert (done.code, data["problems"]) == (1, ["The shared statistics could not be read"])
    assert data["tiers"][1]["entries"] == 3


def test_another_caches_counters_are_not_taken_for_this_ones(used):
    other = used.with_name("other.toml")
    other.write_text(CONFIG.replace('"shop"', '"other"'))
    with TieredCache.from_config(other) as cache:
        for _ in range(50):
            cache.get("missing")
    data = told(used)
    assert (data["cache"], data["statistics"]["sum"]["misses"]) == ("shop", 3)
    assert told(other)["statistics"]["sum"]["misses"] == 50


def test_nothing_private_is_in_it(used):
    for arguments in ((), ("--json",), ("--html", "page.html")):
        done = run("report", used, *arguments)
        shown = Path("page.html").read_text() if "--html" in arguments else done.out
        assert "shop" in shown
        for private in (KEY, VALUE.decode(), "hidden-folder", "shared.db", "sqlite", str(used.parent)):
            assert private not in shown, private


def test_wrong_uses_are_told(used):
    for arguments, code, said in [
        ((used, "-c", used), 2, "name one configuration"),
        (("missing.toml",), 1, "missing.toml"),
        ((used, "--count", "-1"), 2, "--count"),
    ]:
        done = run("report", *arguments)
        assert (done.code, done.out, said in done.err) == (code, "", True), (arguments, done.err)
    done = run("report", used, "--html", "page.html", "--json")
    assert (done.code, Path("page.html").exists()) == (2, False)
    used.write_text("tiers = 3\n")
    assert run("report", used).code == 1


def test_a_page_has_the_same_numbers(used):
    done = run("report", used, "--html", "page.html")
    assert (done.code, done.out, done.err) == (0, "the report is in page.html\n", "")
    page = Path("page.html").read_text()
    for piece in ("75.0%", "0.30 of 0.50 EUR", "2.30 EUR", "60.0%", day(3), "counted now"):
        assert piece in page, piece


def test_a_page_that_cannot_be_written_leaves_nothing_half(used):
    old = Path("page.html")
    old.write_text("the last one")
    Path("folder").mkdir()
    for target, why in (("missing/page.html", "make it first"), ("folder", "is a directory"),
                        ("page.html/page.html", "is no folder")):  # fmt: skip
        done = run("report", used, "--html", target)
        assert (done.code, done.out) == (1, "")
        assert why in done.err, done.err
    before = old.stat().st_ino
    folder = Path("closed")
    folder.mkdir()
    (folder / "page.html").write_text("the last one")
    folder.chmod(0o500)
    done = obeying_rights(lambda: run("report", used, "--html", folder / "page.html"))
    assert (done.code, "may not write" in done.err) == (1, True), done.err
    assert (folder / "page.html").read_text() == old.read_text() == "the last one"
    assert run("report", used, "--html", old).code == 0
    assert old.stat().st_ino != before  # another took its place: nobody saw a half one
    assert not list(Path().rglob("*.new"))
