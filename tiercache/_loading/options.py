"""All options of a cache's loads: those of `Staleness` and those of `Pace`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tiercache._loading.pace import PACE_READERS, UNPACED, Made, Pace, PaceOptions
from tiercache._loading.staleness import NEVER_STALE, READERS, Staleness, StalenessOptions

__all__ = ["PLAIN", "LoadingOptions", "Manner"]


class LoadingOptions(StalenessOptions, PaceOptions, total=False):
    """Options of a cache and of its loading calls; see `StalenessOptions` and `PaceOptions`."""


class Manner(NamedTuple):
    """How loads are made, checked."""

    staleness: Staleness = NEVER_STALE
    pace: Pace = UNPACED

    def override(self, options: Mapping[str, Any], made: Made) -> Manner:
        """The same with ``options`` in the place of these. Raises `ConfigError` for a value that is wrong and
        `TypeError` for an option that there is not."""
        if not options:
            return self
        for name in options:
            if name not in READERS and name not in PACE_READERS:
                known = ", ".join((*READERS, *PACE_READERS))
                raise TypeError(f"there is no option {name!r} here; there are {known}")
        return Manner(
            self.staleness.override({name: options[name] for name in options if name in READERS}),
            self.pace.override({name: options[name] for name in options if name in PACE_READERS}, made),
        )


#: What a cache does unless told.
PLAIN = Manner()
