"""The schema of configurations takes what is in order, and refuses what is not: by a validator of others."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from bad_configurations import BAD, MEMORY
from configurations import configurations
from doc_snippets import PAGES, ROOT, blocks
from hypothesis import HealthCheck, given, settings
from schema_pages import SCHEMA
from selections import together

from tiercache.config import read
from tiercache.config._codecs import LAYERS
from tiercache.config._kinds import kind_of
from tiercache.config._models import MODELS, RootOptions, ViewOptions
from tiercache.config._variables import VariableError

jsonschema = pytest.importorskip("jsonschema")

VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_it_is_a_schema():
    VALIDATOR.check_schema(SCHEMA)


def examples():
    """The configurations in the documentation."""
    for page in PAGES:
        for block in blocks(page, "toml", "yaml", "json"):
            if "tiers" in block.text and page.name != "writing-a-plug-in.md":
                yield pytest.param(block, id=f"{page.relative_to(ROOT)}:{block.line}")


@pytest.mark.parametrize("block", list(examples()))
def test_it_takes_the_examples_of_the_documentation(block, tmp_path):
    file = tmp_path / f"example.{block.language}"
    file.write_text(block.text)
    VALIDATOR.validate(read(file).content)


@pytest.mark.parametrize(
    "config",
    [
        {"tiers": [MEMORY]},
        {"tiers": [{"type": "chain", "tiers": [MEMORY], "codec": "json"}]},
        {"tiers": [{"type": "disk", "directory": "d"}]},
        {"tiers": [{"type": "${TYPE}", "anything": 1}]},
        {"tiers": [MEMORY], "codec": {"type": "vector", "as_": "array", "compress": "none", "encrypt": None}},
        {
            "tiers": [MEMORY],
            "codec": {"type": "json", "compress": {}, "encrypt": {"key": ["${A}", "0f" * 16]}},
        },
        {"caches": {"one": {"tiers": [MEMORY]}, "two": {"tiers": [MEMORY], "views": {"v": {}}}}},
        {"$schema": "./tiercache.schema.json", "$folder": "~/x", "tiers": [MEMORY]},
        {"$schema": "./tiercache.schema.json", "$folder": "x", "caches": {"one": {"tiers": [MEMORY]}}},
    ],
)
def test_it_takes_what_is_in_order(config):
    VALIDATOR.validate(config)


#: What only variables, the table's names or the server's own URLs tell.
BEYOND = (
    "is not set; set it",
    "~nobody-has-this-name",
    "begins no variable",
    "is not allowed; use",
    "cannot be used",
)


@together(("config", "problem"), BAD)
def test_it_refuses_what_is_not(config, problem):
    try:
        plain = json.loads(json.dumps(config, allow_nan=False))
    except (TypeError, ValueError):  # what JSON cannot say
        return
    beyond = any(one in problem for one in BEYOND) or "is not supported; it may begin" in problem
    assert VALIDATOR.is_valid(plain) == beyond


@pytest.mark.parametrize(
    "config",
    [
        {"tiers": [{"type": "memory", "directory": "d"}]},
        {"tiers": [MEMORY], "views": {"v": {"tiers": []}}},
        {"caches": {}},
        {"caches": {"one": {"tiers": [MEMORY]}}, "ttl": 5},
        {"caches": {"one": {"$schema": "x", "tiers": [MEMORY]}}},
        {"$folder": 5, "tiers": [MEMORY]},
    ],
)
def test_it_refuses_what_is_out_of_its_place(config):
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(config)


#: Values of all sorts, to try on each kind.
VALUES: list[Any] = [
    *(None, True, False, 0, 1, 2, 22, 23, -1, 0.5, 1.5, -0.5, 10**30, [], [5], {}),
    *({"per_day": one} for one in (1, 0, "1.5", "0.0", "1" * 7, "text", True, None)),
    *({"per_day": 1, **one} for one in ({"warn_at": []}, {"warn_at": 0.5}, {"action": "warn"}, {"more": 1})),
    *(
        {"per_day": 1, "warn_at": [one]}
        for one in (0.5, 1, 0, 1.5, "0.5", "1", "1.0", "0", "1.5", ".5", "text", True)
    ),
    *({"per_day": 1, "action": one} for one in ("block", "stop", None)),
    *(0.0, -0.0, 1.0, 22.0, 23.0, 1e300, 2_073_600, 2_073_601),
    *("1_0", "+1", "٣", "0.5B", "0.4", "1.5B", "0.001KB", "0.0009KB", "0.001KiB", "0.0001MB", "0.000001mb"),
    *("0.00098KiB", "0.00000001MiB", "9" * 30, "9" * 31, "9" * 400 + "GiB", "0.0GB", "0.000000000001TB"),
    *("true", "false", "none", "", " ", "0", "1", "22", "23", "1e3", "1e", ".5", "text", "a\0b"),
    *("0s", "5m", " 5 M ", "1.5h", "250ms", "5 parsecs", "5mm", "s", "-5m", "256MiB", "10gb", "1 KB"),
    *("10%", "100%", "101%", "5.5 %"),
    *("0f" * 16, "0F" * 32, "0f" * 17, "0123456789abcdef", ["0123456789abcdef"], ["0f" * 32, "b1" * 24]),
    *("redis://h", "rediss+cluster://h", "redis:/h", "sqlite://", "postgresql+psycopg://h", "postgres://h"),
    *("oracle://h", "mysql+x://", "memory", "lru", "LRU", "process", "shared", "float16", "json"),
]

#: Each kind of value once.
KINDS = {
    f"{kind.called or '-'.join(kind.names())}{' or none' * kind.nullable}": kind
    for model in (*MODELS.values(), RootOptions, ViewOptions, *(layer.model for layer in LAYERS))
    for kind in map(kind_of, model.model_fields.values())
    if kind.called not in ("tiers", "views", "codec")
}


@together("kind", KINDS.values())
def test_a_value_is_taken_by_the_schema_where_it_is_taken_by_the_check(kind):
    parts = [{"$ref": f"#/$defs/{kind.called}"}] if kind.called else [{"enum": list(kind.names())}]
    parts += [{"$ref": "#/$defs/none"}] if kind.nullable else []
    validator = VALIDATOR.evolve(schema={"anyOf": parts, "$defs": SCHEMA["$defs"]})
    for value in VALUES:
        try:
            kind.check(copy.copy(value))
            taken = True
        except (ValueError, VariableError):
            taken = False
        assert validator.is_valid(value) == taken, value


def test_a_variable_is_taken_for_every_value():
    for name, table in SCHEMA["$defs"].items():
        for option, one in table.get("properties", {}).items() if name in MODELS else ():
            if option != "type":
                validator = VALIDATOR.evolve(schema={**one, "$defs": SCHEMA["$defs"]})
                assert validator.is_valid("${ANY}"), option
                assert validator.is_valid("${ANY:-a}"), option
                assert not validator.is_valid(date(2000, 1, 1)), option


@settings(max_examples=30, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(configurations())
def test_it_takes_random_ones_that_are_in_order(config):
    VALIDATOR.validate(config)
