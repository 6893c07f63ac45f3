"""All options of a cache's loads: those of `Staleness`, `Pace` and `Admission`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tiercache._loading.admission import ADMISSION_READERS, ADMIT_ALL, Admission, AdmissionOptions
from tiercache._loading.pace import PACE_READERS, UNPACED, Made, Pace, PaceOptions
from tiercache._loading.staleness import NEVER_STALE, READERS, Staleness, StalenessOptions

__all__ = ["PLAIN", "LoadingOptions", "Manner"]


class LoadingOptions(StalenessOptions, PaceOptions, AdmissionOptions, total=False):
    """Options of a cache and of its loading calls; see `StalenessOptions`, `PaceOptions` and
    `AdmissionOptions`."""


#: What reads the options of each.
_ALL = (READERS, PACE_READERS, ADMISSION_READERS)


class Manner(NamedTuple):
    """How loads are made, checked."""

    staleness: Staleness = NEVER_STALE
    pace: Pace = UNPACED
    admission: Admission = ADMIT_ALL

    def override(self, options: Mapping[str, Any], made: Made) -> Manner:
        """The same with ``options`` in the place of these. Raises `ConfigError` for a value that is wrong and
        `TypeError` for an option that there is not."""
        if not options:
            return self
        for name in options:
            if not any(name in readers for readers in _ALL):
                known = ", ".join(name for readers in _ALL for name in readers)
                raise TypeError(f"there is no option {name!r} here; there are {known}")
        return Manner(
            self.staleness.override({name: options[name] for name in options if name in READERS}),
            self.pace.override({name: options[name] for name in options if name in PACE_READERS}, made),
            self.admission.override({name: options[name] for name in options if name in ADMISSION_READERS}),
        )


#: What a cache does unless told.
PLAIN = Manner()
