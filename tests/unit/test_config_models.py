"""The options of a configuration are the parameters of the constructors: neither has what the other lacks."""

from __future__ import annotations

import inspect
import typing

import pytest

from tiercache import DiskTier, MemoryTier, NullTier, RedisTier, SQLTier, TieredCache, guarded, registry
from tiercache.codecs import EncryptedCodec, VectorCodec, ZstdCodec
from tiercache.config._codecs import OWN_CODECS, EncryptedOptions, VectorOptions, ZstdOptions
from tiercache.config._kinds import Kind
from tiercache.config._models import (
    MODELS,
    ChainOptions,
    DiskOptions,
    GuardOptions,
    MemoryOptions,
    NullOptions,
    RedisOptions,
    RootOptions,
    SQLOptions,
    ViewOptions,
)
from tiercache.config._options import names_of
from tiercache.config._values import REDIS_SCHEMES, SQL_DIALECTS
from tiercache.registry import codec, codec_names, tier_maker
from tiercache.tiers.memory._policies import POLICIES
from tiercache.tiers.redis._connect import SCHEMES
from tiercache.tiers.sql._engines import _DRIVERS

PAIRS = [
    (MemoryTier, MemoryOptions),
    (DiskTier, DiskOptions),
    (RedisTier, RedisOptions),
    (SQLTier, SQLOptions),
    (NullTier, NullOptions),
    (TieredCache, ChainOptions),
]
#: What only code can give.
CODE_ALONE = {"clock", "sizeof", "async_client", "on_event"}

pairs = pytest.mark.parametrize(("made", "model"), PAIRS, ids=lambda one: one.__name__)


def parameters(made):
    found = dict(inspect.signature(made).parameters)
    return {name: parameter for name, parameter in found.items() if name not in CODE_ALONE}


@pairs
def test_the_fields_are_the_parameters(made, model):
    assert model.model_fields.keys() == parameters(made).keys()


@pairs
def test_an_option_is_told_by_the_name_of_its_parameter(made, model):
    told = {names_of(name, field)[0] for name, field in model.model_fields.items()}
    assert told == parameters(made).keys()


@pairs
def test_the_defaults_are_the_same(made, model):
    for name, parameter in parameters(made).items():
        field = model.model_fields[name]
        assert field.is_required() == (parameter.default is parameter.empty), name
        if not field.is_required():
            assert field.default == parameter.default, name


@pairs
def test_an_option_can_be_none_where_the_parameter_can(made, model):
    for name, parameter in parameters(made).items():
        if parameter.default is not parameter.empty:
            (kind,) = (item for item in model.model_fields[name].metadata if isinstance(item, Kind))
            optional = "None" in str(parameter.annotation)
            try:
                taken = kind.check(None) is None
            except ValueError:
                taken = False
            assert taken == optional, name


@pairs
def test_the_choices_are_the_same(made, model):
    for name, parameter in parameters(made).items():
        annotation = str(parameter.annotation)
        if annotation.startswith("Literal["):
            (kind,) = (item for item in model.model_fields[name].metadata if isinstance(item, Kind))
            assert set(kind.names()) == set(typing.get_args(eval(annotation, vars(typing)))), name  # noqa: S307 - our own source


@pytest.mark.parametrize(
    ("made", "model", "apart"),
    [
        (guarded, GuardOptions, {"tier"}),
        (ZstdCodec, ZstdOptions, {"inner"}),
        (EncryptedCodec, EncryptedOptions, {"inner"}),
        (VectorCodec, VectorOptions, set()),
    ],
)
def test_what_is_put_around_has_its_options_too(made, model, apart):
    named = {name: one for name, one in inspect.signature(made).parameters.items() if name not in apart}
    assert model.model_fields.keys() == named.keys()
    for name, parameter in named.items():
        if parameter.default is not parameter.empty:
            assert model.model_fields[name].default == parameter.default, name


def test_each_codec_of_ours_has_its_options():
    plain = set(registry._OWN_CODECS)
    assert OWN_CODECS.keys() == plain | {"vector"}


def test_a_view_has_the_options_of_the_method():
    named = dict(inspect.signature(TieredCache.view).parameters)
    assert ViewOptions.model_fields.keys() == named.keys() - {"self"}
    assert ViewOptions.model_fields["ttl"].default is named["ttl"].default


def test_only_the_outermost_chain_has_views():
    assert RootOptions.model_fields.keys() - ChainOptions.model_fields.keys() == {"views"}


def test_what_is_not_given_is_not_passed_on():
    assert MemoryOptions.model_validate({"ttl": "5m"}).arguments(None) == {"ttl": "5m"}
    assert DiskOptions.model_validate({"path": "a"}).arguments(None) == {"path": "a"}


def test_each_tier_of_ours_has_its_model():
    for name, model in MODELS.items():
        assert (tier_maker(name), model) in PAIRS


def test_names_that_stand_in_two_places_are_the_same():
    (policy,) = (item for item in MemoryOptions.model_fields["policy"].metadata if isinstance(item, Kind))
    assert set(policy.names()) == set(POLICIES)
    assert {f"{scheme}://" for scheme in REDIS_SCHEMES} == set(SCHEMES)
    assert set(SQL_DIALECTS) == set(_DRIVERS)


def test_a_codec_is_known_by_the_name_that_it_stores():
    for name in codec_names():
        assert codec(name).name == name
