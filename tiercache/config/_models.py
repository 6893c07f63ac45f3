"""The options of each tier, and of a chain: one model each, its fields the constructor's parameters.

The one place that says which options there are; a test holds the models against the constructors. Left out
are parameters that only code can give: clocks, functions, clients and engines. A default stands here for
readers and schemas alone: what a configuration does not give is not passed on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from tiercache.config._kinds import (
    SQLURL,
    Codec,
    Eagerness,
    Filled,
    Flag,
    Grace,
    GraceOnError,
    Jitter,
    OptionalBudget,
    OptionalCount,
    OptionalLasting,
    OptionalName,
    OptionalPlace,
    OptionalRate,
    OptionalRateURL,
    OptionalSecrets,
    OptionalWait,
    OptionalWeight,
    Place,
    RedisURL,
    Repeats,
    Text,
    Tiers,
    Tries,
    Views,
    Wait,
    Weight,
    Window,
    choice,
    kind_of,
)
from tiercache.entry import UNSET

__all__ = ["MODELS", "ChainOptions", "GuardOptions", "Options", "RootOptions", "ViewOptions"]


#: The default of a parameter that means something else than ``None`` when it is left out.
_UNSET: Any = UNSET


class Options(BaseModel):
    """What all models have: nothing unknown is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def given(self) -> dict[str, Any]:
        """The options that the configuration gave, by the constructor's names."""
        return {
            name: getattr(self, name) for name in self.__class__.model_fields if name in self.model_fields_set
        }

    def arguments(self, folder: Path | None) -> dict[str, Any]:
        """What to call the constructor with; relative paths begin at ``folder`` where there is one."""
        given = self.given()
        for name, value in given.items():
            begin = _AT_A_FOLDER.get(kind_of(self.__class__.model_fields[name]).place)
            if folder is not None and begin is not None and value is not None:
                given[name] = begin(folder, value)
        return given

    def touches_nothing(self) -> bool:
        """Whether making the tier leaves no trace on the machine."""
        return True


class MemoryOptions(Options):
    max_entries: OptionalCount = 100_000
    max_bytes: OptionalWeight = None
    ttl: OptionalLasting = _UNSET
    policy: Annotated[str, choice("lru", "lfu", "fifo", "random", "s3-fifo")] = "lru"
    name: OptionalName = None


class DiskOptions(Options):
    path: Place = Field(validation_alias=AliasChoices("path", "directory"))
    max_bytes: Weight = "10GiB"
    max_entries: OptionalCount = None
    ttl: OptionalLasting = None
    durability: Annotated[str, choice("process", "power")] = "process"
    deadline: Wait = 2.0
    breaker_failures: OptionalCount = 3
    breaker_pause: Wait = 1.0
    breaker_longest: Wait = 30.0
    retries: Repeats = 0
    read_only: Flag = False
    on_unusable: Annotated[str, choice("error", "temporary")] = "error"
    name: OptionalName = None
    secret: OptionalSecrets = None

    def touches_nothing(self) -> bool:
        return False  # it makes its folder


class RedisOptions(Options):
    url: RedisURL
    prefix: Filled = "tiercache:"
    ttl: OptionalLasting = None
    deadline: Wait = 0.5
    breaker_failures: OptionalCount = 3
    breaker_pause: Wait = 1.0
    breaker_longest: Wait = 30.0
    retries: Repeats = 0
    name: OptionalName = None
    secret: OptionalSecrets = None


class SQLOptions(Options):
    url: SQLURL
    table: Text = "tiercache"
    create: Flag = True
    max_bytes: OptionalWeight = None
    max_entries: OptionalCount = None
    ttl: OptionalLasting = None
    deadline: Wait = 2.0
    breaker_failures: OptionalCount = 3
    breaker_pause: Wait = 1.0
    breaker_longest: Wait = 30.0
    retries: Repeats = 0
    name: OptionalName = None
    secret: OptionalSecrets = None

    def touches_nothing(self) -> bool:
        return not self.url.startswith("sqlite")  # whose file is made


class NullOptions(Options):
    name: OptionalName = None


class ChainOptions(Options):
    tiers: Tiers
    namespace: Text = ""
    ttl: OptionalLasting = None
    codec: Codec = None
    promote: Annotated[str, choice("background", "inline")] = "background"
    stale_for: Grace = 0
    stale_if_error: GraceOnError = False
    refresh_ahead: Eagerness = 0
    jitter: Jitter = 0
    sliding: OptionalLasting = None
    load_deadline: OptionalWait = None
    lock: Annotated[str, choice("process", "shared")] = "process"
    rate: OptionalRate = None
    rate_shared: OptionalRateURL = None
    concurrency: OptionalCount = None
    retry: Tries = False
    batch_window: Window = 0
    max_batch: OptionalCount = None
    min_bytes: OptionalWeight = None
    min_cost: OptionalWait = None
    stats_file: OptionalPlace = _UNSET
    ledger: Flag = False
    prices: OptionalPlace = None
    budget: OptionalBudget = None
    model: OptionalName = None
    popular: OptionalCount = None


class RootOptions(ChainOptions):
    """Those of a chain, and what only one that users hold has."""

    views: Views = {}


class ViewOptions(Options):
    """Those of ``TieredCache.view``."""

    namespace: Text = _UNSET
    codec: Codec = None
    ttl: OptionalLasting = _UNSET
    model: OptionalName = None


class GuardOptions(Options):
    """Those of ``guarded``, for a tier of somebody else that has none of that name itself."""

    deadline: OptionalWait = None
    breaker_failures: OptionalCount = 3
    breaker_pause: Wait = 1.0
    breaker_longest: Wait = 30.0
    retries: Repeats = 0
    name: OptionalName = None


#: By the names of the registry. A tier that somebody else registered has no model: its constructor tells.
MODELS: dict[str, type[Options]] = {
    "memory": MemoryOptions,
    "disk": DiskOptions,
    "redis": RedisOptions,
    "sql": SQLOptions,
    "null": NullOptions,
}


def _from(folder: Path, path: str) -> str:
    return path if path.startswith("~") else str(folder / path)


def _sqlite_from(folder: Path, url: str) -> Any:
    """``url``, with the file of a SQLite database beginning at ``folder``."""
    from sqlalchemy.engine import make_url  # the tier that this is for has imported it
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        return url  # the tier says what is wrong with it
    database = parsed.database or ":memory:"
    if parsed.get_backend_name() != "sqlite" or ":memory:" in database or database.startswith("file:"):
        return url
    # Not put together as text: a "?" in the folder's name would end the path.
    return parsed.set(database=_from(folder, database))


#: What a relative place of each sort begins at a folder with.
_AT_A_FOLDER: dict[str, Callable[[Path, str], Any]] = {"path": _from, "sqlite": _sqlite_from}
