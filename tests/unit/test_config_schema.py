"""The schema of configurations: what it says of each option, and that the file of it is as it is now."""

from __future__ import annotations

import json

import pytest
from schema_pages import FILE, RENEW, SCHEMA, text_of_file
from shell import run

from tiercache import registry
from tiercache.config import _about, schema
from tiercache.config._codecs import LAYERS, OWN_CODECS
from tiercache.config._kinds import kind_of
from tiercache.config._models import MODELS, ChainOptions, RootOptions, ViewOptions
from tiercache.config._schema import _TAKES
from tiercache.entry import UNSET
from tiercache.testing import DictTier

DEFS = SCHEMA["$defs"]
OPTIONS = [*MODELS.values(), RootOptions, ViewOptions, *OWN_CODECS.values(), *(one.model for one in LAYERS)]


def test_the_file_is_as_the_models_are():
    assert FILE.read_text() == text_of_file(), f"renew it: {RENEW}"


def test_the_command_prints_it():
    done = run("schema")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == schema()


def test_what_is_said_of_options_is_said_of_options_that_there_are():
    for model, said in _about._OWN.items():
        assert said.keys() <= model.model_fields.keys(), model
    shared = {
        name for model in OPTIONS for name in model.model_fields if name not in _about._OWN.get(model, {})
    }
    assert _about._COMMON.keys() <= shared
    for model in (*OPTIONS, ChainOptions):
        for name in model.model_fields:
            text, _ = _about.about(model, name)
            assert text.endswith("."), name
            assert "|" not in text, "it would end a cell of the table"


@pytest.mark.parametrize(
    ("name", "model"), [*MODELS.items(), ("cache", RootOptions), ("chain", ChainOptions)]
)
def test_each_option_is_there_with_its_default(name, model):
    table = DEFS[name]
    assert table["additionalProperties"] is False
    given = {alias for one in model.model_fields for alias in _names(one)}
    assert table["properties"].keys() - {"type"} == given
    for one, field in model.model_fields.items():
        option = table["properties"][_names(one)[0]]
        assert option["description"]
        assert option["examples"]
        is_plain = not field.is_required() and field.default is not UNSET
        assert option.get("default", "?") == (field.default if is_plain else "?")


def _names(field):
    return ["path", "directory"] if field == "path" else [field]


def test_each_kind_of_value_is_in_it():
    used = {kind_of(field).called for model in OPTIONS for field in model.model_fields.values()}
    assert used - {"", "codec"} == _TAKES.keys() == _TAKES.keys() & DEFS.keys()


def test_every_reference_leads_somewhere():
    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"].removeprefix("#/$defs/")
            value = list(value.values())
        for one in value if isinstance(value, list) else ():
            yield from references(one)

    found = set(references(SCHEMA))
    assert found == DEFS.keys()


@pytest.mark.usefixtures("registries")
def test_types_of_plug_ins_are_in_it_unless_left_out():
    registry.register_tier("dict", DictTier)
    registry.register_codec("mine", "somewhere:Mine")
    assert schema(plug_ins=False) == SCHEMA
    defs = schema()["$defs"]
    assert "dict" in defs["tier"]["properties"]["type"]["anyOf"][0]["enum"]
    assert "mine" in defs["codec"]["anyOf"][0]["enum"]
    assert "mine" in defs["codec-table"]["properties"]["type"]["anyOf"][0]["enum"]
