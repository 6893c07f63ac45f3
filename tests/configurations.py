"""Random configurations that are in order, of tiers that need no server to be made: for `hypothesis`.

What an option takes is made here from its documentation, and not from the code that checks it. Paths are
relative, and no two alike.
"""

from __future__ import annotations

from itertools import count

from hypothesis import strategies as st

from tiercache.config._codecs import EncryptedOptions, NamedVectorOptions, VectorOptions, ZstdOptions
from tiercache.config._kinds import kind_of
from tiercache.config._models import (
    ChainOptions,
    DiskOptions,
    MemoryOptions,
    RedisOptions,
    RootOptions,
    SQLOptions,
    ViewOptions,
)

_amounts = st.one_of(
    st.integers(1, 10**6).map(str), st.floats(0.01, 10**5).map(lambda number: f"{number:.3f}")
)
_spaces = st.sampled_from(["", " "])


def _with_units(*units):
    return st.builds("{2}{0}{2}{1}".format, _amounts, st.sampled_from(["", *units]), _spaces)


_seconds = st.one_of(
    st.integers(1, 10**7), st.floats(0.001, 10**7), _with_units("ms", "S", "m", "min", "h", "d", "w")
)
_zero = st.sampled_from([0, 0.0, "0", "0s"])
_hex = st.sampled_from([32, 48, 64]).flatmap(
    lambda size: st.text("0123456789abcdefABCDEF", min_size=size, max_size=size)
)
_counts = st.integers(1, 10**9) | st.integers(1, 10**9).map(str)
_flags = st.sampled_from([True, False, "true", "false"])
_texts = st.text(max_size=12).map(lambda text: text.replace("${", "$${"))
_filled = _texts.filter(bool)
_secrets = st.text(min_size=16, max_size=24).map(lambda text: text.replace("$", "S"))
_tables = st.from_regex(r"[a-z_][a-z0-9_]{0,20}", fullmatch=True)


def _some(one):
    return one | st.lists(one, min_size=1, max_size=3)


#: By the names that the schema gives to kinds of values.
_VALUES = {
    "duration": _seconds,
    "wait": st.integers(1, 2_073_600)
    | st.sampled_from([0.001, 2_073_599.9, "2 s", "1.5M", "250ms", "24d", "3w"]),
    "duration-or-zero": _seconds | _zero,
    "duration-or-flag": _seconds | _flags,
    "duration-or-share": _seconds | _zero | st.integers(0, 100).map("{}%".format),
    "rate-url": st.sampled_from(
        ["redis://127.0.0.1:1/0", "rediss://user:password@h", "unix:///run/none.sock"]
    ),
    "wait-or-zero": st.integers(0, 2_073_600) | st.sampled_from([0.001, "0", "5ms", "24d"]),
    "tries": _flags | st.integers(0, 100) | st.sampled_from(["0", "3", "100"]),
    "rate": st.sampled_from(
        ["60/min", "1_000 requests / 30 s", "500/min, 90000 tokens/min", " 5 tokens/h,2/d"]
    ),
    "size": st.integers(1, 2**50)
    | st.builds("{}{}".format, st.integers(1, 999), st.sampled_from(["", "B", "kb", "MiB", " GiB"])),
    "count": _counts,
    "count-or-zero": _counts | st.sampled_from([0, "0"]),
    "level": st.integers(1, 22) | st.integers(1, 22).map(str),
    "number": st.floats(0, 10) | st.integers(0, 10) | st.sampled_from(["1", "0.5", "1e1"]),
    "flag": _flags,
    "text": _texts,
    "filled-text": _filled,
    "name": _filled | st.none(),
    "secret": _some(_secrets),
    "keys": _some(_hex),
    "redis-url": st.sampled_from(
        [
            "redis://127.0.0.1:1/0",
            "rediss://user:password@h",
            "unix:///run/none.sock?db=2",
            "redis+sentinel://a:1,b:2/service/3",
            "redis+cluster://a:1,b:2",
        ]
    ),
}


def _options(model, **own):
    """Tables with options of ``model``; ``own`` are strategies for some of them, ``None`` leaves one out."""
    required, optional = {}, {}
    for name, field in model.model_fields.items():
        kind = kind_of(field)
        made = own[name] if name in own else _codecs if kind.called == "codec" else _VALUES.get(kind.called)
        if name not in own and not kind.called:
            made = st.sampled_from(kind.names())
        if made is None:
            continue
        if kind.nullable:
            made |= st.sampled_from([None, "none"])
        (required if field.is_required() else optional)[name] = made
    return st.fixed_dictionaries(required, optional=optional)


def _typed(name, tables):
    return tables.map(lambda table: {"type": name, **table})


# -- codecs ----------------------------------------------------------------------------------------

_plain = ["bytes", "json", "text"]
_vectors = ["vector-f2", "vector-f4", "vector-f8"]
_around = st.fixed_dictionaries(
    {},
    optional={
        "compress": st.sampled_from(["zstd", "none", None]) | _options(ZstdOptions),
        "encrypt": st.sampled_from(["none", None]) | _options(EncryptedOptions),
    },
)
_inner = st.one_of(
    st.sampled_from(_plain).map(lambda name: {"type": name}),
    _typed("vector", _options(VectorOptions)),
    st.builds(
        lambda name, table: {"type": name, **table}, st.sampled_from(_vectors), _options(NamedVectorOptions)
    ),
)
_codecs = st.one_of(
    st.sampled_from([*_plain, *_vectors, *(f"zstd-{name}" for name in _plain)]),
    st.builds(lambda inner, around: {**inner, **around}, _inner, _around),
)

# -- tiers -----------------------------------------------------------------------------------------

_LEASES = ("disk", "redis", "sql")
_tiers = st.one_of(
    _typed("memory", _options(MemoryOptions)),
    _typed("disk", _options(DiskOptions, path=st.just(""))),
    _typed("redis", _options(RedisOptions)),
    _typed("sql", _options(SQLOptions, url=st.just(""), table=_tables)),
)


def _chains(inner):
    return st.lists(inner, min_size=1, max_size=3).flatmap(lambda tiers: _chain(tiers, ChainOptions))


def _chain(tiers, model, **own):
    lease = any(tier["type"] in _LEASES for tier in tiers)  # without one there is no lock to share
    lock = st.sampled_from(["process", "shared"] if lease else ["process"])
    return _options(model, tiers=st.just(tiers), lock=lock, stats_file=st.just("stats.db"), **own)


_members = _tiers | _typed("chain", _chains(_tiers | _typed("chain", _chains(_tiers))))
_views = st.dictionaries(st.text(max_size=8), _options(ViewOptions), max_size=3)


def _placed(config):
    """``config`` with a place of its own for each tier."""
    numbers = count()

    def placed(table):
        made = dict(table)
        if made.get("type") == "disk":
            del made["path"]
            number = next(numbers)
            made[("path", "directory")[number % 2]] = f"d{number}"
        elif made.get("type") == "sql":
            made["url"] = f"sqlite:///s{next(numbers)}.db"
        elif made.get("type") == "redis" and (number := next(numbers)):
            made["prefix"] = f"{number}:{made.get('prefix', '')}"
        if "tiers" in made:
            made["tiers"] = [placed(tier) for tier in made["tiers"]]
        return made

    return placed(config)


def configurations():
    """A strategy of mappings for `TieredCache.from_config`."""
    members = st.lists(_members, min_size=1, max_size=3)
    return members.flatmap(lambda tiers: _chain(tiers, RootOptions, views=_views)).map(_placed)


def only_read(config):
    """The directories of the disk tiers in ``config`` that nothing may be written to."""
    for tier in config["tiers"]:
        if tier["type"] == "chain":
            yield from only_read(tier)
        elif tier.get("read_only") in (True, "true"):
            yield tier.get("path") or tier["directory"]
