"""Tiers of somebody else, by the name under which they were registered."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

import tiercache
from tiercache import ConfigError, TieredCache, registry
from tiercache.codecs import JSONCodec
from tiercache.policies import Failure
from tiercache.testing import AsyncDictTier, DictTier

pytestmark = pytest.mark.usefixtures("registries")


class Vault(DictTier):
    made: list[Vault] = []  # noqa: RUF012 - the test's record

    def __init__(self, url, *, password="", limits=None, **more):
        super().__init__("vault")
        self.made_with = {"url": url, "password": password, "limits": limits, **more}
        self.closed_times = 0
        if password.startswith("wrong"):
            raise ValueError(f"{url} does not open with {password}")
        Vault.made.append(self)

    def close(self):
        self.closed_times += 1


class Strict(DictTier):
    def __init__(self, url, *, deadline=1):
        super().__init__("strict")
        self.made_with = (url, deadline)


def told(*tiers):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config({"tiers": list(tiers)})
    return str(caught.value).removeprefix("the configuration: ")


def test_a_registered_class_is_a_type(monkeypatch):
    monkeypatch.setenv("PLACE", "cellar")
    registry.register_tier("strict", Strict)
    with TieredCache.from_config({"tiers": [{"type": "strict", "url": "x:${PLACE}"}]}) as cache:
        assert cache._stack.guards[0].tier.made_with == ("x:cellar", 1)
        cache.set("a", b"1")
        assert cache.get("a") == b"1"


def test_an_import_string_is_imported_at_its_first_use():
    registry.register_tier("dict", "tiercache.testing:DictTier")
    with TieredCache.from_config({"tiers": [{"type": "dict", "name": "mine"}]}) as cache:
        assert cache.stats().tiers[0].name == "mine"
    registry.register_tier("nowhere", "tiercache.testing:NoSuchTier")
    assert told({"type": "nowhere"}).startswith(
        "tiers[0]: the tier type 'nowhere' is registered as 'tiercache.testing:NoSuchTier', which cannot be"
    )


def test_its_parameters_are_its_options():
    registry.register_tier("strict", Strict)
    assert told({"type": "strict", "dead_line": 1, "url": "${NO_SUCH}"}) == (
        "2 problems\n"
        "  tiers[0].dead_line: is not known; allowed: url, deadline, breaker_failures, breaker_pause, "
        'breaker_longest, retries, name; did you mean "deadline"?\n'
        "  tiers[0].url: the variable NO_SUCH is not set; set it, or write a default: ${NO_SUCH:-…}"
    )
    assert told({"type": "strict"}) == "tiers[0].url: is missing"


def test_variables_are_expanded_inside_of_what_it_takes(monkeypatch):
    monkeypatch.setenv("WORD", "hunter2")
    registry.register_tier("vault", Vault)
    tier = {"type": "vault", "url": "u", "limits": {"a": ["${WORD}", 3]}, "other": "${WORD}"}
    with TieredCache.from_config({"tiers": [tier]}) as cache:
        assert cache._stack.guards[0].tier.made_with == {
            "url": "u",
            "password": "",
            "limits": {"a": ["hunter2", 3]},
            "other": "hunter2",
        }
    assert tier["limits"] == {"a": ["${WORD}", 3]}, "what was passed in is not changed"


def test_what_it_says_is_told_without_secrets(monkeypatch):
    monkeypatch.setenv("WORD", "wrong hunter2")
    registry.register_tier("vault", Vault)
    text = told({"type": "vault", "url": "x://u:pass%2Fword@h?token=t0ken", "password": "${WORD}"})
    assert text == "tiers[0]: x://u:***@h?token=*** does not open with ***"


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"limits": {"password": "hunter2"}}, "***"),
        ({"limits": [{"api_key": "hunter2"}]}, "***"),
        ({"limits": {"access-key": "hunter2", "accessKey": "other"}}, "***"),
        ({"keys": {"2026": "hunter2"}}, "***"),
        ({"keys": ["old", "hunter2"]}, "***"),
        ({"auth": {"user": "ada", "name": ["hunter2"]}}, "***"),
        ({"key": b"hunter2"}, "***"),
        ({"replicas": ["x://u:hunter2@h"]}, "***"),
        ({"max_keys": "hunter2", "key_prefix": "hunter2", "monkey": "hunter2"}, "hunter2"),
    ],
)
def test_secrets_inside_options_are_not_told_either(options, shown):
    def refuse(**_options):
        raise ValueError("no place for hunter2")

    registry.register_tier("refusing", refuse)
    assert told({"type": "refusing", **options}) == f"tiers[0]: no place for {shown}"


def test_what_is_no_tier_is_refused():
    registry.register_tier("text", str)
    assert told({"type": "text"}) == "tiers[0]: its type made a str, which is no tier"


def test_all_that_was_made_is_closed_when_a_later_one_fails():
    registry.register_tier("vault", Vault)
    Vault.made.clear()
    inner = {"type": "chain", "tiers": [{"type": "vault", "url": "2"}, {"type": "memory"}]}
    text = told(
        {"type": "vault", "url": "1"},
        inner,
        {"type": "vault", "url": "3", "password": "wrong hunter2"},
        {"type": "vault", "url": "4"},
    )
    assert text.startswith("tiers[2]: ")
    assert [tier.made_with["url"] for tier in Vault.made] == ["1", "2", "4"], (
        "the others are tried all the same"
    )
    assert all(tier.closed_times for tier in Vault.made)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ZeroDivisionError(), r"ZeroDivisionError \(test_config_registry\.py, line \d+\)"),
        (KeyError("size"), r"KeyError: 'size' \(test_config_registry\.py, line \d+\)"),
        (RuntimeError("no room for hunter2"), r"RuntimeError: no room for \*\*\* \(.*\.py, line \d+\)"),
        (OSError("no disk"), "no disk"),
        (ImportError("no driver"), r"ImportError: no driver \(.*, line \d+\)"),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, Exception) else "",
)
def test_whatever_a_constructor_raises_is_told_and_the_others_are_closed(error, shown):
    def broken(password):
        raise error

    registry.register_tier("vault", Vault)
    registry.register_tier("broken", broken)
    registry.register_codec("broken-codec", broken)
    Vault.made.clear()
    codec = {"type": "broken-codec", "password": "hunter2"}
    tiers = [{"type": "vault", "url": "1"}, {"type": "broken", "password": "hunter2"}, {"type": "else"}]
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config({"tiers": tiers, "codec": codec})
    assert caught.value.__cause__ is caught.value.__context__ is None
    lines = str(caught.value).splitlines()
    assert lines[0] == "the configuration: 3 problems"
    assert {line.split(": ")[0] for line in lines[1:]} == {"  tiers[1]", "  tiers[2].type", "  codec"}
    for line in lines[1:]:
        if "type" not in line:
            assert re.fullmatch(rf"  \S+: {shown}", line)
    (vault,) = Vault.made
    assert vault.closed_times == 1


def test_what_stops_the_program_is_no_problem_of_the_configuration():
    def stopped():
        raise KeyboardInterrupt

    registry.register_tier("vault", Vault)
    registry.register_tier("stopped", stopped)
    Vault.made.clear()
    with pytest.raises(KeyboardInterrupt):
        TieredCache.from_config({"tiers": [{"type": "vault", "url": "1"}, {"type": "stopped"}]})
    assert [vault.closed_times for vault in Vault.made] == [1]


@pytest.mark.parametrize("guard", [{}, {"deadline": "1s"}])
def test_a_tier_without_a_hash_is_told(guard):
    @dataclass
    class Plain(DictTier):
        size: int = 1
        closed = 0

        def __post_init__(self):
            super().__init__("plain")

        def close(self):
            Plain.closed += 1

    registry.register_tier("plain", Plain)
    text = told({"type": "memory"}, {"type": "plain", "size": 2, **guard})
    assert text == (
        "tiers[1]: its type made a Plain, which has no hash, by which tiers are told apart; "
        "a dataclass has one as @dataclass(eq=False)"
    )
    assert Plain.closed == 1


def test_what_an_import_string_raises_is_told(tmp_path, monkeypatch):
    (tmp_path / "a_broken_plug_in.py").write_text("nothing = None\nif __name__:\n    1 / 0\n")
    (tmp_path / "an_empty_plug_in.py").write_text("nothing = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry.register_tier("broken", "a_broken_plug_in:Tier")
    registry.register_tier("empty", "an_empty_plug_in:nothing")
    assert told({"type": "broken"}) == (
        "tiers[0]: the tier type 'broken' is registered as 'a_broken_plug_in:Tier', which cannot be "
        "imported: ZeroDivisionError: division by zero"
    )
    assert told({"type": "empty"}) == (
        "tiers[0]: the tier type 'empty' is registered as 'an_empty_plug_in:nothing', which is no class"
    )


def test_a_tier_that_is_async_alone_is_closed_too():
    closed = []

    class Remote(AsyncDictTier):
        async def aclose(self):
            closed.append(self)

    def broken():
        raise ValueError("no")

    registry.register_tier("remote", Remote)
    registry.register_tier("broken", broken)
    assert told({"type": "remote"}, {"type": "broken"}) == "tiers[1]: no"
    assert len(closed) == 1


def test_a_tier_that_cannot_be_closed_hides_no_problem():
    class Stuck(DictTier):
        def close(self):
            raise OSError("stuck")

    def broken():
        raise ValueError("no")

    registry.register_tier("vault", Vault)
    registry.register_tier("stuck", Stuck)
    registry.register_tier("broken", broken)
    Vault.made.clear()
    assert told({"type": "vault", "url": "1"}, {"type": "stuck"}, {"type": "broken"}) == "tiers[2]: no"
    assert Vault.made[0].closed_times


@pytest.mark.parametrize("name", ["memory", "chain", "sql"])
def test_a_name_of_ours_is_taken(name):
    with pytest.raises(ConfigError, match=f"the name '{name}' is taken"):
        registry.register_tier(name, Strict)


def test_a_name_is_registered_once():
    registry.register_tier("strict", Strict)
    registry.register_tier("strict", Strict)
    with pytest.raises(ConfigError, match="the name 'strict' is taken"):
        registry.register_tier("strict", Vault)
    assert registry.tier_names() == ("memory", "disk", "redis", "sql", "null", "strict", "chain")


@pytest.mark.parametrize(
    ("name", "tier"),
    [("", Strict), (" a", Strict), (3, Strict), ("a", "module"), ("a", ":Name"), ("a", "module:"), ("a", 5)],
)
def test_what_cannot_be_registered_is_refused(name, tier):
    with pytest.raises(ConfigError, match="register_tier: "):
        registry.register_tier(name, tier)


def test_what_it_has_no_parameter_for_is_done_around_it():
    class Named(DictTier):
        def __init__(self, name="own"):
            super().__init__(name)

    registry.register_tier("named", Named)
    options = {
        "deadline": "250ms",
        "breaker_failures": "none",
        "breaker_pause": 2,
        "breaker_longest": "5s",
        "retries": 3,
    }
    tiers = [{"type": "named", "name": "mine", **options}, {"type": "named", "deadline": "none"}]
    with TieredCache.from_config({"tiers": tiers}) as cache:
        first, second = (guard.tier for guard in cache._stack.guards)
        assert [guard.name for guard in cache._stack.guards] == ["mine", "own"]
        assert first.failure == Failure(0.25, None, 2.0, 5.0, 3)
        assert second.failure == Failure()
        assert isinstance(first.tier, Named)
        assert call_twice(cache) == b"1"
    assert told({"type": "named", "deadline": "soon", "retries": -1}).splitlines()[0] == "2 problems"
    assert told({"type": "named", "deadline": 0}).startswith("tiers[0].deadline: found 0; allowed: more than")


def call_twice(cache):
    cache.set("a", b"1")
    return cache.get("a")


def test_its_own_parameters_are_its_own():
    registry.register_tier("strict", Strict)
    with TieredCache.from_config({"tiers": [{"type": "strict", "url": "x", "deadline": "any"}]}) as cache:
        assert cache._stack.guards[0].tier.made_with == ("x", "any")
    registry.register_tier("vault", Vault)
    with TieredCache.from_config({"tiers": [{"type": "vault", "url": "x", "retries": "any"}]}) as cache:
        assert cache._stack.guards[0].tier.made_with["retries"] == "any"


# -- codecs ----------------------------------------------------------------------------------------


class Reversed:
    def __init__(self, times=1, secret=""):
        self.name = "reversed"
        self.times = times
        if secret:
            raise ValueError(f"no {secret}")

    def encode(self, value):
        return value[:: -1 if self.times % 2 else 1].encode()

    def decode(self, data):
        return data.decode()[:: -1 if self.times % 2 else 1]


def test_a_registered_codec_is_one():
    registry.register_codec("reversed", Reversed)
    registry.register_codec("reversed", Reversed)
    registry.register_codec("json-too", "tiercache.codecs:JSONCodec")
    registry.register_codec("nowhere", "tiercache.codecs:NoSuch")
    registry.register_codec("text-class", "builtins:str")
    config = {"tiers": [{"type": "memory"}, {"type": "dict"}]}
    registry.register_tier("dict", "tiercache.testing:DictTier")
    with TieredCache.from_config(config | {"codec": "reversed"}) as cache:
        cache.set("a", "bc")
        assert cache.get("a") == "bc"
    with TieredCache.from_config(config | {"codec": {"type": "reversed", "times": 2}}) as cache:
        assert cache.codec.times == 2
    with TieredCache.from_config(config | {"codec": "json-too"}) as cache:
        assert cache.codec == JSONCodec()
    for codec, problem in {
        "nowhere": "the codec 'nowhere' is registered as 'tiercache.codecs:NoSuch', which cannot be imported",
        "text-class": "its type made a str, which is no codec",
        "reverse": 'found "reverse"; allowed: ',
    }.items():
        with pytest.raises(ConfigError, match=f"codec: {problem}"):
            TieredCache.from_config(config | {"codec": codec})
    for options, problem in {
        "time": r'time: is not known; allowed: times, secret, compress, encrypt; did you mean "times"\?',
        "secret": r"codec: no \*\*\*",
    }.items():
        with pytest.raises(ConfigError, match=problem) as caught:
            TieredCache.from_config(config | {"codec": {"type": "reversed", options: "hunter2"}})
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", ["json", "zstd-json", "vector-f4", "none", "reversed"])
def test_a_codecs_name_is_taken_once(name):
    registry.register_codec("reversed", Reversed)
    with pytest.raises(ConfigError, match=f"register_codec: the name '{name}' is taken"):
        registry.register_codec(name, str)
    with pytest.raises(ConfigError, match="register_codec: 5 is no name"):
        registry.register_codec(5, Reversed)


def test_both_are_public():
    assert tiercache.register_tier is registry.register_tier
    assert tiercache.register_codec is registry.register_codec
