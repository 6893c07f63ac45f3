"""Users' loaders as the core calls them: for some keys, through a runtime, with their answer checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tiercache._loading.admission import ADMIT_ALL, Admission
from tiercache._loading.pace import UNPACED, Pace
from tiercache._loading.sending import joint_of
from tiercache._loading.staleness import NEVER_STALE, Staleness
from tiercache._loading.telling import Told, loader_name
from tiercache._log import logger
from tiercache._running.bridge import Runtime
from tiercache.errors import LoadError

__all__ = [
    "Batched",
    "Load",
    "LoadMany",
    "batched",
    "check_takes_one",
    "group_of",
    "load_of",
    "many",
    "single",
]

T = TypeVar("T")

#: Calls a loader (its ``__wrapped__``) for some keys and gives back the values there are, some of them
#: `Loaded`.
LoadMany = Callable[[Runtime, list[str]], Awaitable[dict[str, Any]]]


@dataclass(slots=True)
class Load:
    """What a loading call asks for, besides its keys."""

    load_many: LoadMany
    ttl: float | None = None
    staleness: Staleness = NEVER_STALE
    pace: Pace = UNPACED
    admission: Admission = ADMIT_ALL
    batch_size: int | None = None
    #: Loads that have the same one may become one call of the loader; ``None``: this one never does.
    group: Hashable = None
    #: Whether the loader is `Batched`.
    batched: bool = False

    @property
    def apart(self) -> bool:
        """Whether the loader may give an exception in the place of a value: also to who goes by himself."""
        return self.batched or self.pace.window > 0

    @property
    def size(self) -> int | None:
        """How many keys a call has at most."""
        sizes = [self.batch_size, self.pace.most if self.pace.window else None]
        return min((size for size in sizes if size is not None), default=None)


class Batched(Generic[T]):
    """See `batched`."""

    __slots__ = ("load_many",)

    def __init__(self, load_many: Callable[[list[str]], Any]) -> None:
        _check_callable(load_many, "a list of keys", "lambda keys: [...]")
        self.load_many = load_many


def batched(load_many: Callable[[list[str]], Any]) -> Batched[Any]:
    """A loader for `get_or_load` made of one for many keys: ``get_or_load(key, batched(load_many))``. With
    ``batch_window`` on, loads of several callers become one call of it; what is batched is told by the
    function, not by this object.

    ``load_many`` is that of `mget_or_load`. It may also give an exception in the place of a value: that is
    raised to those who asked for this key.
    """
    return Batched(load_many)


def load_of(
    loader: Any, told: Told, ttl: float | None, staleness: Staleness, pace: Pace, admission: Admission
) -> Load:
    """The load of one key by ``loader``, which may be `Batched`."""
    if type(loader) is not Batched:
        return Load(single(loader), ttl, staleness, pace, admission)
    group = group_of(loader.load_many, pace)
    load_many = many(loader.load_many, told)
    return Load(load_many, ttl, staleness, pace, admission, group=group, batched=True)


def group_of(load_many: Any, pace: Pace) -> Hashable:
    """What tells this loader from others, where loads are batched; ``None``: this one is not."""
    if not pace.window:
        return None
    told = joint_of(load_many)
    if told is not None:
        return told.group(load_many)
    try:
        hash(load_many)
    except TypeError:
        return None
    return load_many  # type: ignore[no-any-return]  # it was hashed


def single(loader: Callable[[str], Any]) -> LoadMany:
    """A loader of one key, as a loader of many that is only ever asked for one. Raises `TypeError` for what
    is no function."""
    _check_callable(loader, "the key", "lambda key: ...")

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        try:
            value = await runtime.call(loader, keys[0])
        except TypeError:
            check_takes_one(loader)
            raise
        return {} if value is None else {keys[0]: value}

    load.__wrapped__ = loader  # type: ignore[attr-defined]  # attributes on a function are beyond the type system
    return load


def check_takes_one(loader: Callable[[str], Any]) -> None:
    """Calling the loader of one key raised a `TypeError`: raise one that helps if it had to."""
    _check_takes_one(loader, "the key", "lambda key: ...")


def many(loader: Callable[[list[str]], Any], told: Told) -> LoadMany:
    """A loader of many keys, its answer checked; what looks like a mistake is ``told`` once. Raises
    `TypeError` for what is no function."""
    _check_callable(loader, "a list of keys", "lambda keys: [...]")

    async def load(runtime: Runtime, keys: list[str]) -> dict[str, Any]:
        try:
            answer = await runtime.call(loader, list(keys))
        except TypeError:
            _check_takes_one(loader, "a list of keys", "lambda keys: [...]")
            raise
        if isinstance(answer, Mapping):
            pairs = [(key, answer.get(key)) for key in keys]
            if answer and not any(key in answer for key in keys):
                _tell_of_strange_keys(loader, answer, told)
        else:
            try:
                given = None if isinstance(answer, str | bytes | AbstractSet) else list(answer)
            except TypeError:
                given = None
            if given is None:
                raise LoadError(
                    f"the loader {loader_name(loader)} returned {type(answer).__name__}; it must return a "
                    f"sequence of values in the order of its keys, or a mapping"
                )
            if len(given) != len(keys):
                raise LoadError(
                    f"the loader {loader_name(loader)} was asked for {len(keys)} keys and returned "
                    f"{len(given)} values; give one for each, in their order, or a mapping of those "
                    f"that there are"
                )
            pairs = list(zip(keys, given, strict=True))
        return {key: value for key, value in pairs if value is not None}

    load.__wrapped__ = loader  # type: ignore[attr-defined]  # as above
    return load


def _check_callable(loader: object, what: str, example: str) -> None:
    if not callable(loader):
        raise TypeError(
            f"a loader must be a function of {what}, such as {example}, not {type(loader).__name__}"
        )


def _check_takes_one(loader: Callable[..., Any], what: str, example: str) -> None:
    """Raise a `TypeError` that helps where calling ``loader`` with one argument could but raise one. Only
    looked for once it did: it costs more than most hits."""
    import inspect

    try:
        signature = inspect.signature(loader)
    except (TypeError, ValueError):  # some functions written in C do not tell
        return
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(
            f"the loader {loader_name(loader)} cannot be called with one argument: a loader is a function of "
            f"{what}, such as {example}"
        ) from None


def _tell_of_strange_keys(loader: Callable[..., Any], answer: Mapping[Any, Any], told: Told) -> None:
    name = loader_name(loader)
    if told.first("strange keys", name):
        kinds = sorted({type(key).__name__ for key in answer})
        logger().warning(
            "the loader %s returned a mapping of %d values and none for the keys that it was asked for: its "
            "own keys (%s) are others, and what it loaded is lost",
            name,
            len(answer),
            ", ".join(kinds),
        )
