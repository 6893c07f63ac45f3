"""The table of bad configurations, and what their authors are told: alone, beside secrets, all at once."""

from __future__ import annotations

import json

import pytest
from bad_configurations import BAD, MEMORY
from selections import together

from tiercache import ConfigError, TieredCache

#: A tier that is in order, with secrets in it.
SECRETIVE = {"type": "redis", "url": "redis://app:hunter2@h:6379/0", "secret": "hunter2 hunter2 hunter2"}

bad = together(("config", "problem"), BAD)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def told(config, **options):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(config, **options)
    error = caught.value
    assert "hunter2" not in f"{error} {error!r}"
    assert error.__cause__ is None
    assert error.__context__ is None, "an error behind this one may show what this one hides"
    return str(error)


def test_there_are_enough_of_them():
    assert len(BAD) >= 40
    assert sum("did you mean" in problem for _, problem in BAD) >= 10


@bad
def test_what_is_wrong_is_told(config, problem, tmp_path):
    assert told(config) == f"the configuration: {problem}"
    assert not list(tmp_path.iterdir()), "nothing is made for a configuration that is wrong"


@bad
def test_it_is_told_of_one_of_several_caches_too(config, problem):
    if config:  # an empty one is told in another way where it has a path
        shown = told({"caches": {"it": config, "other": {"tiers": [MEMORY]}}}, name="it")
        assert shown == f"the configuration: caches.it.{problem}"


@bad
def test_secrets_beside_it_are_not_told(config, problem):
    if config.get("tiers") and isinstance(config["tiers"], list):
        assert told({**config, "tiers": [*config["tiers"], SECRETIVE]}) == f"the configuration: {problem}"


def test_a_file_of_it_is_told_by_its_name(tmp_path):
    told_of_files = 0
    for number, (config, problem) in enumerate(BAD):
        try:
            text = json.dumps(config)
        except TypeError:  # it holds what only code can give
            continue
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        shown = told(file)
        told_of_files += shown == f"{file}: {problem}"
    assert told_of_files > 60


def test_all_of_them_at_once():
    tiers = [(config["tiers"], problem) for config, problem in BAD if problem.startswith("tiers[")]
    chains = [{"type": "chain", "tiers": one} for one, _ in tiers]
    lines = told({"tiers": chains}).splitlines()
    assert lines[0] == f"the configuration: {len(tiers)} problems"
    # What only making a tier tells comes last.
    assert sorted(lines[1:]) == sorted(
        f"  tiers[{number}].{problem}" for number, (_, problem) in enumerate(tiers)
    )
