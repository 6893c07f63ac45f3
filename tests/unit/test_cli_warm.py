"""`tiercache warm`: what lines become, which are left out, and that each of those is named."""

from __future__ import annotations

import json

import pytest
from shell import run

from tiercache import DiskTier, TieredCache, TierUnavailable


@pytest.fixture
def make(tmp_path):
    """Writes the configuration of a chain with that codec, and gives its path."""

    def write(codec="bytes", more=""):
        path = tmp_path / "tiercache.toml"
        path.write_text(
            f'namespace = "app"\nttl = "1h"\ncodec = "{codec}"\n'
            f'[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "disk"\ndirectory = "disk"\n{more}'
        )
        return path

    return write


def warm(path, *lines, flags=()):
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    return run("warm", "-", "-c", path, *flags, stdin=text.encode())


def held(path):
    with TieredCache.from_config(path) as cache:
        keys = list(cache.keys())
        return dict(zip(keys, cache.mget(keys), strict=True))


def test_lines_become_entries_in_batches(make, tmp_path):
    path, file = make(), tmp_path / "lines.jsonl"
    lines = [{"key": f"k{number}", "value": f"value {number}"} for number in range(1_300)]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = run("warm", file, "-c", path, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"stored": 1_300, "bad_lines": 0, "failed_tiers": []}
    assert held(path) == {line["key"]: line["value"].encode() for line in lines}


@pytest.mark.parametrize(
    ("codec", "value", "expected"),
    [
        ("bytes", "text ü\ud800", b"text \xc3\xbc\xed\xa0\x80"),
        ("zstd-bytes", "text", b"text"),
        ("text", "text ü", "text ü"),
        ("json", {"a": [1, None]}, {"a": [1, None]}),
        ("zstd-json", [1.5], [1.5]),
        ("vector-f4", [0.5, -2.0], [0.5, -2.0]),
    ],
)
def test_a_value_is_what_the_codec_takes(make, codec, value, expected):
    path = make(codec)
    done = warm(path, {"key": "key", "value": value})
    assert (done.code, done.err) == (0, "tiercache: 1 entry stored\n")
    found = held(path)["key"]
    assert list(found) == expected if codec.startswith("vector") else found == expected


def test_bytes_are_those_that_the_codec_made(make):
    path = make("json")
    done = warm(path, {"key": "a", "value_base64": "WzFd"}, {"key": "b", "value_base64": "AP8="})
    assert done.code == 1
    assert "line 2: the codec 'json' cannot read these bytes" in done.err
    assert held(path) == {"a": [1]}
    path = make()
    assert warm(path, {"key": "b", "value_base64": "AP8="}).code == 0
    assert run("get", "b", "-c", path).raw == b"\x00\xff"


def test_each_line_has_its_own_life(make):
    path = make()
    lives = {"default": {}, "short": {"ttl": 60}, "text": {"ttl": "2h"}, "ever": {"ttl": None}}
    assert warm(path, *({"key": key, "value": "v", **life} for key, life in lives.items())).code == 0
    with TieredCache.from_config(path) as cache:
        core = cache.as_tier()._core
        found = core.stack.guards[-1].tier.mget(core.members[-1].fold_all(list(lives)))
    left = {
        name.rpartition("/")[2]: entry.expires_at and entry.expires_at - entry.created_at
        for name, entry in found.items()
    }
    assert left == {"default": 3600, "short": 60, "text": 7200, "ever": None}


def test_of_a_key_that_comes_twice_the_last_one_counts(make):
    path = make()
    done = warm(path, {"key": "k", "value": "1", "ttl": 60}, {"key": "k", "value": "2"}, "", "  ")
    assert done.err == "tiercache: 2 entries stored\n"
    assert held(path) == {"k": b"2"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{secret", "no JSON (column 2)"),
        ("[" * 100_000, "no JSON"),
        ("\xff", "no JSON (column 1)"),
        ('["secret"]', "no JSON object"),
        ('{"key": "secret", "value": "1", "key": "k"}', "one object has the same name twice"),
        ('{"key": "k", "value": {"secret": 1, "secret": 2}}', "one object has the same name twice"),
        ({"value": "secret"}, '"key" is missing'),
        ({"key": 1, "value": "secret"}, '"key" is no text'),
        ({"key": "k"}, 'one of "value" and "value_base64" is needed'),
        ({"key": "k", "value": "secret", "value_base64": ""}, "one of"),
        ({"key": "k", "value_base64": "secret!"}, "is no base64"),
        ({"key": "k", "value_base64": 7}, "is no base64"),
        ({"key": "k", "value": None}, "is null, which is no value"),
        ({"key": "k", "value": ["secret"]}, "is no text, and this cache is of bytes"),
        ({"key": "k", "value": "secret", "ttl": "soon"}, "\"ttl\": 'soon' cannot be read"),
        ({"key": "k", "value": "secret", "ttl": -1}, '"ttl": -1 is not allowed'),
        ({"key": "k", "value": "secret", "ttl": True}, '"ttl": True is no duration'),
        ({"key": "k", "value": "secret", "tll": 1}, "'tll' is not known; it has 'key', 'value'"),
    ],
)
def test_a_bad_line_is_named_and_the_others_are_stored(make, line, reason):
    path = make()
    done = warm(path, {"key": "before", "value": "1"}, line, {"key": "after", "value": "2"})
    assert done.code == 1
    told, total = done.err.splitlines()
    assert told.startswith("tiercache: line 2: ")
    assert reason in told
    assert total == "tiercache: 2 entries stored, 1 bad line left out"
    assert "secret" not in done.err
    assert held(path) == {"before": b"1", "after": b"2"}


def test_what_the_codec_refuses_is_a_bad_line_too(make):
    path = make("text")
    lines = [{"key": f"k{number}", "value": "v" if number % 2 else number} for number in range(60)]
    done = warm(path, *lines, flags=["--json"])
    assert (done.code, json.loads(done.out)) == (1, {"stored": 30, "bad_lines": 30, "failed_tiers": []})
    assert len(held(path)) == 30
    told = done.err.splitlines()
    assert [line.split(":")[1] for line in told[:20]] == [f" line {number}" for number in range(1, 40, 2)]
    assert told[20:] == ["tiercache: more bad lines are counted, and not named"]


@pytest.mark.parametrize("between", [0, 499], ids=["in one batch", "in two"])
def test_a_bad_line_costs_no_other_line_of_its_key_anything(make, between):
    path = make("text")
    lines = [
        {"key": "before", "value": "good"},
        {"key": "after", "value": 1},
        {"key": "both", "value": 2},
        {"key": "both", "value": "first"},
        *({"key": f"other {number}", "value": ""} for number in range(between)),
        {"key": "before", "value": 3},
        {"key": "after", "value": "good"},
        {"key": "both", "value": "good"},
        {"key": "both", "value": 4, "ttl": 5},
    ]
    done = warm(path, *lines, flags=["--json"])
    assert (done.code, json.loads(done.out)["stored"], json.loads(done.out)["bad_lines"]) == (
        1,
        4 + between,
        4,
    )
    bad = [number for number, line in enumerate(lines, 1) if isinstance(line["value"], int)]
    told = [int(line.split(":")[1].removeprefix(" line ")) for line in done.err.splitlines()]
    assert sorted(told) == bad
    found = held(path)
    assert {key: found[key] for key in ("before", "after", "both")} == dict.fromkeys(
        ("before", "after", "both"), "good"
    )


def test_a_tier_that_takes_nothing_is_told(make):
    path = make(more='[[tiers]]\ntype = "redis"\nurl = "redis://127.0.0.1:1/0"')
    done = warm(path, {"key": "k", "value": "secret"})
    assert done.code == 1
    assert "not all of them in redis; run it again when that is well" in done.err
    assert "secret" not in done.err
    assert run("warm", "nowhere.jsonl", "-c", path).code == 1


SMALL = 'max_bytes = "200KB"\n'
LARGE = "secret" * 60_000  # more than the disk's room


def test_what_is_too_large_is_a_bad_line_and_not_stored(make):
    path = make(more=SMALL)
    lines = [{"key": f"k{number}", "value": "v"} for number in range(9)]
    lines[5]["value"] = LARGE
    done = warm(path, {"key": "k5", "value": "earlier"}, *lines)
    assert done.code == 1
    told, total = done.err.splitlines()[-2:]
    assert told == "tiercache: line 7: larger than all the room of disk"
    assert total == "tiercache: 8 entries stored, 1 bad line left out"
    assert "secret" not in done.err
    assert sorted(held(path)) == ["k0", "k1", "k2", "k3", "k4", "k6", "k7", "k8"]


def test_what_is_too_large_for_one_tier_is_stored_in_another_and_told(make, tmp_path):
    path = make(more=f'{SMALL}[[tiers]]\ntype = "sql"\nurl = "sqlite:///{tmp_path}/shared.db"')
    done = warm(path, {"key": "a", "value": LARGE}, {"key": "b", "value": "v"}, flags=["--json"])
    assert (done.code, json.loads(done.out)) == (1, {"stored": 2, "bad_lines": 0, "failed_tiers": ["disk"]})
    assert done.err.endswith("tiercache: not all of them in disk: they are larger than all of its room\n")
    assert sorted(held(path)) == ["a", "b"]


def test_memory_alone_keeps_nothing_of_it(make, monkeypatch):
    monkeypatch.setattr(DiskTier, "_mset", refuse)
    done = warm(make(), {"key": "k", "value": "secret"})
    assert done.code == 1
    assert "line 1: not taken by disk; stored before it: 0 entries" in done.err
    assert "secret" not in done.err


def refuse(*_arguments, **_options):
    raise TierUnavailable("down")


def test_a_namespace_is_warmed_by_its_name(make):
    path = make(more='[views.texts]\ncodec = "text"')
    assert warm(path, {"key": "k", "value": "v"}, flags=["-n", "texts"]).code == 0
    with TieredCache.from_config(path) as cache:
        assert cache.views["texts"].get("k") == "v"
        assert cache.get("k") is None
