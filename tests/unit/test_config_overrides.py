"""Options that environment variables set."""

from __future__ import annotations

from decimal import Decimal

import pytest
from overrides import without_overrides

from tiercache import ConfigError, TieredCache

CONFIG = {"ttl": 60, "tiers": [{"type": "memory", "max_entries": 5}]}


@pytest.fixture(autouse=True)
def _own(tmp_path, monkeypatch):
    without_overrides(monkeypatch)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def override(monkeypatch):
    def override(**variables):
        for variable, value in variables.items():
            monkeypatch.setenv(f"TIERCACHE__{variable}", value)

    return override


def told(config=CONFIG, **options):
    with pytest.raises(ConfigError) as caught:
        TieredCache.from_config(config, **options)
    assert "hunter2" not in str(caught.value)
    return str(caught.value).removeprefix("the configuration: ")


def test_options_of_the_chain_and_its_tiers(override):
    override(TTL="5m", TIERS__0__MAX_ENTRIES="12", TIERS__0__policy="lfu", Namespace="a${HOME}")
    with TieredCache.from_config(CONFIG) as cache:
        assert cache._ttl == 300
        assert cache._core.path == ("a${HOME}",), "what a variable holds is not expanded again"
        tier = cache._stack.guards[0].tier
        assert (tier.max_entries, tier.policy) == (12, "lfu")
    assert CONFIG == {"ttl": 60, "tiers": [{"type": "memory", "max_entries": 5}]}


def test_those_of_a_file(override, tmp_path):
    file = tmp_path / "tiercache.toml"
    file.write_text('[[tiers]]\ntype = "disk"\ndirectory = "written"\n')
    override(TIERS__0__PATH="set")
    TieredCache.from_config().close()
    assert (tmp_path / "set").is_dir(), "one option under two names is set, not given twice"
    assert not (tmp_path / "written").exists()
    override(TIERS__0__DEADLINE="250 parsecs")
    assert told(None).startswith(
        f'{file}: tiers[0].deadline (set by TIERCACHE__TIERS__0__DEADLINE): found "250 parsecs"; allowed: '
    )


def test_one_place_after_the_last_appends(override, tmp_path):
    override(TIERS__1__TYPE="disk", TIERS__1__PATH="d", CODEC="json")
    with TieredCache.from_config(CONFIG) as cache:
        assert [guard.name for guard in cache._stack.guards] == ["memory", "disk"]
    assert (tmp_path / "d").is_dir()


def test_many_are_set_in_the_order_of_their_places(override):
    override(**{f"TIERS__{number}__TYPE": "memory" for number in range(12)})
    with TieredCache.from_config({"ttl": 5}) as cache:
        assert len(cache._stack.guards) == 12


def test_views_and_nested_tables(override):
    override(VIEWS__PAGES_2__TTL="7", VIEWS__NEW__CODEC="json")
    with TieredCache.from_config(CONFIG | {"views": {"Pages-2": {}}}) as cache:
        assert cache.views["Pages-2"]._ttl == 7
        assert cache.views["new"].codec.name == "json"


BUDGET = {"per_day": 5, "warn_at": [0.5, 0.9], "action": "block"}


def test_a_budget_whose_table_is_there_or_not(override):
    override(BUDGET__PER_DAY="0.1", BUDGET__WARN_AT__0="0.25", BUDGET__ACTION="warn")
    for config in (CONFIG | {"budget": BUDGET}, CONFIG):
        with TieredCache.from_config(config) as cache:
            budget = cache._stack.books.spending.budget
            shares = (0.25, 0.9) if "budget" in config else (0.25,)
            assert (budget.per_day, budget.warn_at, budget.action) == (Decimal("0.1"), shares, "warn")


@pytest.mark.parametrize("name", ["per_day", "warn_at", "action"])
def test_what_is_wrong_in_a_budget_is_told_as_it_is_written(monkeypatch, name):
    monkeypatch.setenv("ANY", "hunter2")
    wrong = ["${ANY}"] if name == "warn_at" else "${ANY}"
    assert f"{name}={wrong!r}" in told(CONFIG | {"budget": BUDGET | {name: wrong}})
    missing = ["${NONE}"] if name == "warn_at" else "${NONE}"
    assert "the variable NONE is not set" in told(CONFIG | {"budget": BUDGET | {name: missing}})


def test_each_of_several_caches_has_its_own(override):
    config = {"caches": {"one": CONFIG, "Two": CONFIG}}
    override(CACHES__ONE__TTL="1", CACHES__TWO__TTL="2")
    for name, ttl in (("one", 1), ("Two", 2)):
        with TieredCache.from_config(config, name=name) as cache:
            assert cache._ttl == ttl
    with TieredCache.from_config(CONFIG) as cache:
        assert cache._ttl == 60, "they are for configurations that have several"
    override(CACHES__TOW__TTL="2", TTL="9", CACHES__ONE="x")
    lines = told(config, name="one").splitlines()[1:]
    assert lines == [
        "  TIERCACHE__CACHES__ONE names no option of one of the caches 'one', 'Two'; did you mean \"one\"?",
        (
            "  TIERCACHE__CACHES__TOW__TTL names no option of one of the caches 'one', 'Two'; did you mean "
            '"Two"?'
        ),
        "  TIERCACHE__TTL names none of its caches; write TIERCACHE__CACHES__NAME__TTL",
    ]


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        (
            {"TIERS__0__POLICY": "mru"},
            (
                'tiers[0].policy (set by TIERCACHE__TIERS__0__POLICY): found "mru"; allowed: "lru", "lfu", '
                '"fifo", "random", "s3-fifo"; did you mean "lru"?'
            ),
        ),
        (
            {"TIERS__0__MAX_ENTRY": "5"},
            (
                "tiers[0].max_entry (set by TIERCACHE__TIERS__0__MAX_ENTRY): is not known; allowed: "
                'max_entries, max_bytes, ttl, policy, name; did you mean "max_entries"?'
            ),
        ),
        ({"TIERS__7__TTL": "5"}, "TIERCACHE__TIERS__7__TTL leads nowhere: tiers has 1, and 1 would append"),
        ({"TIERS__URL": "5"}, "TIERCACHE__TIERS__URL leads nowhere: tiers has 1, and 1 would append"),
        ({"TTL__0": "5"}, "TIERCACHE__TTL__0 leads into ttl, which is no table and no list"),
        (
            {"TIERS____URL": "5"},
            "'TIERCACHE__TIERS____URL' names no option; write one as in TIERCACHE__TIERS__0__URL",
        ),
        ({"": "5"}, "'TIERCACHE__' names no option; write one as in TIERCACHE__TIERS__0__URL"),
        ({"T-L": "5"}, "'TIERCACHE__T-L' names no option; write one as in TIERCACHE__TIERS__0__URL"),
        ({"TTL": "5", "Ttl": "6"}, "TIERCACHE__Ttl and TIERCACHE__TTL set the same option; set one of them"),
    ],
)
def test_what_is_wrong_is_told_with_the_variable(override, variables, problem):
    override(**variables)
    assert told() == problem


@pytest.mark.parametrize("several", [False, True])
def test_a_slip_of_a_views_name_makes_no_new_view(override, several):
    config = {**CONFIG, "views": {"pages-2": {}}}
    prefix = "CACHES__ONE__" if several else ""
    override(**{f"{prefix}VIEWS__PAEGS_2__TTL": "5"})
    assert told({"caches": {"one": config}} if several else config) == (
        f"TIERCACHE__{prefix}VIEWS__PAEGS_2__TTL names none of the views 'pages-2'; did you mean \"pages-2\"?"
    )


def test_which_of_two_keys_is_meant_must_be_clear(override):
    override(VIEWS__A_B__TTL="5")
    assert told(CONFIG | {"views": {"a-b": {}, "A_b": {}}}) == (
        "TIERCACHE__VIEWS__A_B__TTL may mean each of 'a-b', 'A_b'"
    )


def test_secrets_in_variables_are_not_told(override):
    override(TIERS__0__URL="redis://app:hunter2@h:port/0", TIERS__0__SECRET="hunter2")  # noqa: S106 - made up
    lines = told({"tiers": [{"type": "redis"}]})
    assert "tiers[0].secret (set by TIERCACHE__TIERS__0__SECRET): found a value that is not shown" in lines
    override(TIERS__0__SECRET="hunter2 hunter2 hunter2")  # noqa: S106 - made up
    text = told({"tiers": [{"type": "redis"}]})
    assert text.startswith("tiers[0].url (set by TIERCACHE__TIERS__0__URL): ")


def test_what_a_tier_says_names_the_variable_too(override):
    override(TIERS__0__TABLE="my-table")
    text = told({"tiers": [{"type": "sql", "url": "sqlite://"}]})
    assert text.startswith("tiers[0].table (set by TIERCACHE__TIERS__0__TABLE): 'my-table' is not allowed; ")


def test_what_names_itself_is_told(override, tmp_path):
    override(TTL="5m")
    file = tmp_path / "a.yaml"
    file.write_text("tiers:\n- &a\n  type: chain\n  tiers: [{type: memory}, *a]\n")
    lines = told(file).splitlines()
    assert lines[1] == "  TIERCACHE__TTL cannot be set in what is nested too deeply"
    assert lines[2].endswith("more than 8 chains inside each other are not allowed")
