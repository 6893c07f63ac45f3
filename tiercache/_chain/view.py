"""What a cache object holds: a namespace and a codec over a stack, defaults for calls, and the fast road."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeAlias, TypeVar

from tiercache._chain.arguments import check_keys
from tiercache._chain.core import Core
from tiercache._loading.alone import load_alone
from tiercache._loading.load import Loading
from tiercache._loading.options import PLAIN, Manner
from tiercache._loading.pace import Made
from tiercache._log import logger
from tiercache.entry import MISS, UNSET, Sentinel
from tiercache.units import Duration, duration

if TYPE_CHECKING:
    from tiercache._chain.pickling import Origin

__all__ = ["TTL", "View", "no_hit", "no_hits"]

T = TypeVar("T")

#: Seconds; what is longer was meant as something else: Unix time has been more since 2001.
_DECADES = 1e9

#: A duration, ``None`` for no expiry, or ``UNSET`` for the cache's default.
TTL: TypeAlias = "Duration | Literal[Sentinel.UNSET] | None"


class View(Generic[T]):
    """The ground that the public methods stand on."""

    #: The cache object that a view was made from; ``None`` in that one. It lives as long as its views do.
    _root: View[Any] | None = None
    #: The configuration that the chain was built from, if it was.
    _origin: Origin | None = None
    #: The views that it names: what each is opened with.
    _named: Mapping[str, Mapping[str, Any]] = MappingProxyType({})

    def _bind(self, core: Core, ttl: float | None, manner: Manner = PLAIN) -> None:
        self._core = core
        self._loading = Loading(core)
        self._load_alone = load_alone(core, manner)
        self._stack = core.stack
        self._ttl = self._believed(ttl)
        self._manner = manner
        self._staleness = manner.staleness
        self._eager = manner.staleness.refresh_ahead > 0  # then even a hit may start a load
        self._loading.check(manner.staleness)
        self._is_view = False
        self._closed = False
        top = core.members[0].fast
        self._hit: Callable[[str], Any] = no_hit if top is None else top.hit
        self._hits: Callable[[Sequence[str]], list[Any] | None] = no_hits if top is None else top.hits

    def __reduce__(self) -> tuple[Any, ...]:
        from tiercache._chain.pickling import ViewOf, reduced  # few need it, and it brings datetime and more

        self._check_open()
        if self._root is None:
            return reduced(self._origin, None)
        core = self._core
        return reduced(self._origin, ViewOf(core.path, core.codec, self._ttl, self._staleness, core.model))

    def __copy__(self) -> Self:
        return self  # a handle of tiers: others on the same ones would hear nothing of what this one writes

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    def _check_open(self) -> None:
        self._stack.check_open(view_closed=self._closed)

    def _seconds(self, ttl: TTL) -> float | None:
        if ttl is UNSET:
            return self._ttl
        return None if ttl is None else self._believed(duration(ttl, name="ttl"))

    def _believed(self, seconds: float | None) -> float | None:
        """``seconds``, told once if it looks like a time of day: the entry would as good as never expire."""
        if seconds is not None and seconds > _DECADES and self._stack.told.first("ttl", ""):
            logger().warning(
                "a ttl of %.0f s is %.0f years: it is how long an entry lives, and no time of day; "
                "None is for ever",
                seconds,
                seconds / 31_556_952,
            )
        return seconds

    def _options(self, given: Mapping[str, Any], made: Made | None = None) -> Manner:
        """This view's defaults, with the options that a call was ``given`` in their place. Unless ``made`` is
        given, what is counted for these is that of all such calls of the chain."""
        manner = self._manner.override(given, made or self._stack.made)
        self._loading.check(manner.staleness)
        return manner

    def _all_hit(self, keys: Sequence[str]) -> list[Any] | None:
        try:
            return self._hits(keys)
        except TypeError:
            check_keys(keys)  # an unhashable one says so less clearly
            raise

    def _in_order(self, keys: Sequence[str], unique: Sequence[str], values: dict[str, Any]) -> list[T | None]:
        ordered: list[Any] = [values.get(key) for key in keys]
        if self._core.copies and len(unique) != len(keys):
            # A key that was asked for twice gets two values, or changing one would change the other.
            seen: set[str] = set()
            for index, key in enumerate(keys):
                if key in seen and ordered[index] is not None:
                    ordered[index] = self._core.copied(ordered[index])
                seen.add(key)
        return ordered


def no_hit(_key: str) -> Any:
    """The fast road of a chain without memory at the top, or of a closed view."""
    return MISS


def no_hits(_keys: Sequence[str]) -> list[Any] | None:
    """The same for many keys."""
    return None
