"""A JSON Schema of configurations (draft 2020-12), for editors: made of the models that check them.

It says less than those: a reference to a variable is taken for every text and number, and what a tier of
somebody else takes is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tiercache._loading.rate import RATE_TEXT
from tiercache._loading.shared_rate import RATE_SCHEMES
from tiercache.config._about import about
from tiercache.config._budgets import AMOUNT, SHARE
from tiercache.config._codecs import BESIDES, LAYERS, OWN_CODECS
from tiercache.config._kinds import Kind, kind_of
from tiercache.config._models import MODELS, ChainOptions, Options, RootOptions, ViewOptions
from tiercache.config._options import names_of
from tiercache.config._sources import CACHES, FOLDER
from tiercache.config._values import NUMBER, REDIS_SCHEMES, SQL_DIALECTS
from tiercache.entry import UNSET
from tiercache.registry import CHAIN, OWN_CODEC_NAMES, codec_names, tier_names
from tiercache.units import DURATION_UNITS, LONGEST_WAIT, SIZE_DIGITS, SIZE_UNITS

__all__ = ["schema"]

Schema = dict[str, Any]


def schema(*, plug_ins: bool = True) -> dict[str, Any]:
    """A JSON Schema of configurations, as plain data. With ``plug_ins`` it takes the names that are
    registered in this process, or offered by packages, besides those of our own."""
    own_tiers = (*MODELS, CHAIN)
    foreign_tiers = [name for name in tier_names() if name not in own_tiers] if plug_ins else []
    foreign_codecs = [name for name in codec_names() if name not in OWN_CODEC_NAMES] if plug_ins else []
    tables = {name: _table(model, name) for name, model in MODELS.items()}
    tables[CHAIN] = _table(ChainOptions, CHAIN)
    besides: dict[str, Schema] = {
        "$schema": {"type": "string"},
        FOLDER: {
            "description": "The folder that relative paths begin at: unless given, that of the file.",
            "type": "string",
            "minLength": 1,
        },
    }
    defs: Schema = {
        "cache": _table(RootOptions),
        # Said again, and not by a reference to that one: it could not take anything besides.
        "only-cache": _table(RootOptions, besides=besides),
        "view": _table(ViewOptions),
        "tier": _by_type(tables, foreign_tiers),
        **tables,
        "codec": _codec(foreign_codecs),
        "codec-table": _codec_table(foreign_codecs),
        **{layer.key: _layer(layer.short, layer.model) for layer in LAYERS},
        **_kinds(),
        "none": {"enum": ["none", None], "description": 'Nothing: "none", or null where there is one.'},
        "variable": {
            "type": "string",
            "pattern": r"\$\{",
            "description": "${NAME} or ${NAME:-default}: what that variable of the environment holds.",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "tiercache",
        "description": "A cache of several tiers, or several such caches by name.",
        "type": "object",
        "if": {"required": [CACHES]},
        "then": {
            "properties": {
                CACHES: {
                    "description": "Several caches in one file, by name.",
                    "type": "object",
                    "minProperties": 1,
                    "additionalProperties": _ref("cache"),
                },
                **besides,
            },
            "additionalProperties": False,
        },
        "else": _ref("only-cache"),
        "$defs": defs,
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


# -- tables ----------------------------------------------------------------------------------------


def _table(
    model: type[Options], kind: str | None = None, besides: Mapping[str, Schema] | None = None
) -> Schema:
    """A table with the options of ``model``, of the type ``kind`` if it has one."""
    properties: Schema = {} if kind is None else {"type": {"const": kind}}
    required = [] if kind is None else ["type"]
    alternatives = []
    for name, field in model.model_fields.items():
        names = names_of(name, field)
        for one in names:
            properties[one] = _option(model, name)
        if len(names) > 1:  # an option under two names is given by one of them
            alternatives = [{"required": [one]} for one in names]
        elif field.is_required():
            required.append(name)
    made: Schema = {
        "type": "object",
        "properties": properties | dict(besides or {}),
        "additionalProperties": False,
    }
    if required:
        made["required"] = required
    return made | ({"oneOf": alternatives} if alternatives else {})


def _option(model: type[Options], name: str) -> Schema:
    field = model.model_fields[name]
    kind = kind_of(field)
    text, example = about(model, name)
    made: Schema = {"description": text}
    if not field.is_required() and field.default is not UNSET:
        made["default"] = field.default
    made["examples"] = [example]
    if not kind.called:
        return made | {"anyOf": [{"enum": list(kind.names())}, _ref("variable")]}
    if kind.nullable and kind.called != "codec":  # a codec's own definition has it
        return made | {"anyOf": [_ref(kind.called), _ref("none")]}
    return made | _ref(kind.called)


def _by_type(tables: Iterable[str], foreign: Iterable[str]) -> Schema:
    """One of ``tables``, which its type tells; of those of somebody else that alone is known."""
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"anyOf": [{"enum": [*tables, *foreign]}, _ref("variable")]}},
        "allOf": [{"if": _is_type(name), "then": _ref(name)} for name in tables],
    }


def _is_type(*names: str) -> Schema:
    return {"required": ["type"], "properties": {"type": {"enum": list(names)}}}


def _codec(foreign: Iterable[str]) -> Schema:
    names = {"enum": [*OWN_CODEC_NAMES, *foreign]}
    return {
        "description": "The name of a codec, or a table with its type and options.",
        "anyOf": [names, _ref("codec-table"), _ref("none"), _ref("variable")],
    }


def _codec_table(foreign: Iterable[str]) -> Schema:
    around = {key: _ref(key) for key in BESIDES}
    return {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"anyOf": [{"enum": [*OWN_CODECS, *foreign]}, _ref("variable")]}},
        "allOf": [
            {"if": _is_type(name), "then": _table(model, name, around)} for name, model in OWN_CODECS.items()
        ],
    }


def _layer(short: str | None, model: type[Options]) -> Schema:
    shorts = [] if short is None else [{"enum": [short]}]
    return {"anyOf": [*shorts, _table(model), _ref("none"), _ref("variable")]}


# -- values ----------------------------------------------------------------------------------------


def _kinds() -> Schema:
    """Each kind of value that has a name, as JSON Schema."""
    found: Schema = {}
    layers = (layer.model for layer in LAYERS)
    models: tuple[type[Options], ...] = (*MODELS.values(), RootOptions, ViewOptions, *layers)
    for model in models:
        for field in model.model_fields.values():
            kind = kind_of(field)
            if kind.called and kind.called not in (*found, "codec"):
                found[kind.called] = _kind(kind)
    return found


def _kind(kind: Kind) -> Schema:
    takes = _TAKES[kind.called]
    # Of an optional one "none" is told apart.
    text = kind.allowed.removesuffix(', or "none"')
    made: Schema = {"description": text[0].upper() + text[1:] + "."}
    return made | ({"anyOf": [*takes, _ref("variable")]} if kind.called not in _TABLES else takes[0])


def _written(units: Iterable[str], *, zero: bool = False, most: int | None = None) -> Schema:
    """Text that is a number, with ``most`` digits before the point, and one of ``units`` in any case."""
    above = "" if zero else "(?=.*[1-9])"
    digits = "[0-9]+" if most is None else f"0*[0-9]{{1,{most}}}"
    return {"type": "string", "pattern": rf"^{above}\s*{digits}(\.[0-9]+)?\s*({_spelled(units)})?\s*$"}


def _size() -> Schema:
    """Text that is a size of one byte and more: of what is below one unit the first digits must tell."""
    # Of 1024 and its powers one digit more: 0.00098KiB is a byte too.
    units = {unit: 3 * "BKMGT".index(unit[0]) + unit.count("i") for unit in SIZE_UNITS}
    whole = _spelled(SIZE_UNITS)
    parts = [rf"(?=[0-9]*[1-9])[0-9]{{1,{SIZE_DIGITS}}}(\.[0-9]+)?\s*({whole})?"]
    for places in sorted({*units.values()} - {0}):
        spelled = _spelled(unit for unit, one in units.items() if one == places)
        parts.append(rf"0{{1,{SIZE_DIGITS}}}\.(?=[0-9]{{0,{places - 1}}}[1-9])[0-9]+\s*({spelled})")
    return {"type": "string", "pattern": rf"^\s*({'|'.join(parts)})\s*$"}


def _spelled(units: Iterable[str]) -> str:
    return "|".join("".join(f"[{one.lower()}{one.upper()}]" for one in unit) for unit in units)


def _beginning(schemes: Iterable[str], more: str = "") -> Schema:
    return {"type": "string", "pattern": f"^({'|'.join(re.escape(one) for one in schemes)}){more}://"}


def _or_several(one: Schema) -> list[Schema]:
    return [one, {"type": "array", "minItems": 1, "items": {"anyOf": [one, _ref("variable")]}}]


_ABOVE_ZERO: Schema = {"type": "number", "exclusiveMinimum": 0}
_ZERO_OR_MORE: Schema = {"type": "number", "minimum": 0}
_AMOUNT: Schema = _ABOVE_ZERO | {"exclusiveMaximum": 1_000_000}
_FLAG: Schema = {"enum": [True, False, "true", "false"]}
_TABLES = ("tiers", "views")
#: Of letters beyond ASCII four may be enough.
_SIXTEEN_BYTES = r"^([\s\S]{16,}|(?=[\s\S]*[^\x00-\x7f])[\s\S]{4,})$"

#: What each kind takes, references to variables aside.
_TAKES: dict[str, list[Schema]] = {
    "wait": [_ABOVE_ZERO | {"maximum": LONGEST_WAIT}, _written(DURATION_UNITS, most=10)],
    "duration": [_ABOVE_ZERO, _written(DURATION_UNITS)],
    "duration-or-zero": [_ZERO_OR_MORE, _written(DURATION_UNITS, zero=True)],
    "duration-or-flag": [_FLAG, _ABOVE_ZERO, _written(DURATION_UNITS)],
    "duration-or-share": [
        _ZERO_OR_MORE,
        _written(DURATION_UNITS, zero=True),
        {"type": "string", "pattern": r"^\s*(0*[0-9]{1,2}(\.[0-9]+)?|0*100(\.0+)?)\s*%\s*$"},
    ],
    "wait-or-zero": [
        _ZERO_OR_MORE | {"maximum": LONGEST_WAIT},
        _written(DURATION_UNITS, zero=True, most=10),
    ],
    "rate-url": [{"type": "string", "pattern": f"^({'|'.join(map(re.escape, RATE_SCHEMES))})"}],
    "tries": [
        _FLAG,
        {"type": "integer", "minimum": 0, "maximum": 100},
        {"type": "string", "pattern": "^0*([1-9]?[0-9]|100)$"},
    ],
    "rate": [{"type": "string", "pattern": f"^{RATE_TEXT}$"}],
    "size": [{"type": "integer", "minimum": 1}, _size()],
    "count": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": "^0*[1-9][0-9]*$"}],
    "count-or-zero": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+$"}],
    "level": [
        {"type": "integer", "minimum": 1, "maximum": 22},
        {"type": "string", "pattern": "^0*([1-9]|1[0-9]|2[0-2])$"},
    ],
    "number": [
        _ZERO_OR_MORE,
        {"type": "string", "pattern": f"^{NUMBER}$"},
    ],
    "flag": [_FLAG],
    "budget": [
        _AMOUNT,
        {"type": "string", "pattern": f"^{AMOUNT}$"},
        {
            "type": "object",
            "required": ["per_day"],
            "properties": {
                "per_day": {
                    "anyOf": [_AMOUNT, {"type": "string", "pattern": f"^{AMOUNT}$"}, _ref("variable")]
                },
                "warn_at": {
                    "type": "array",
                    "items": {
                        "anyOf": [
                            {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                            {"type": "string", "pattern": f"^{SHARE}$"},
                            _ref("variable"),
                        ]
                    },
                },
                "action": {"anyOf": [{"enum": ["block", "warn"]}, _ref("variable")]},
            },
            "additionalProperties": False,
        },
    ],
    "text": [{"type": "string"}],
    "filled-text": [{"type": "string", "minLength": 1}],
    "name": [{"type": ["string", "null"], "minLength": 1}],
    "path": [{"type": "string", "minLength": 1, "pattern": r"^[^\u0000]+$"}],
    "secret": _or_several({"type": "string", "pattern": _SIXTEEN_BYTES}),
    "keys": _or_several({"type": "string", "pattern": "^([0-9a-fA-F]{32}|[0-9a-fA-F]{48}|[0-9a-fA-F]{64})$"}),
    "redis-url": [_beginning(REDIS_SCHEMES)],
    "sql-url": [_beginning((*SQL_DIALECTS, "postgres"), r"(\+[^:]*)?")],
    "tiers": [{"type": "array", "minItems": 1, "items": _ref("tier")}],
    "views": [{"type": "object", "additionalProperties": _ref("view")}],
}
