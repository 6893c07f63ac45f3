"""What is wrong with a configuration that flags made, told by the names of those flags. Needs pydantic."""

from __future__ import annotations

from collections.abc import Mapping

from tiercache.cli._template import Choices
from tiercache.config._problems import Problems

__all__ = ["FlagProblems", "flag_of", "places_of"]

_TIERS = ("memory", "disk", "shared")


def flag_of(name: str) -> str:
    """How what `Choices` calls ``name`` is called on the command line."""
    return f"--{name.replace('_', '-')}"


def places_of(choices: Choices) -> dict[str, str]:
    """The names of the choices by the paths that they have in the configuration made of them."""
    places = {"namespace": "namespace", "ttl": "ttl", "codec": "codec"}
    chosen = [name for name in _TIERS if getattr(choices, name) is not None]
    for index, name in enumerate(chosen):
        places[f"tiers[{index}]"] = name
        if name == "disk":
            places[f"tiers[{index}].max_bytes"] = "disk_size"
    return places


class FlagProblems(Problems):
    """Problems of a configuration that nobody has seen: their paths would say nothing. ``places`` has the
    names of choices by those paths; ``names`` are those that have a problem."""

    def __init__(self, where: str, places: Mapping[str, str]) -> None:
        super().__init__(where)
        self.names: set[str] = set()
        self._places = places

    def add(self, path: str, text: str) -> None:
        """As `Problems.add`, at the flag that ``path`` comes from."""
        names = _TIERS if path == "tiers" else self._names(path)
        if path == "tiers":
            text = 'all of them are "none", and a cache has one tier at least'
        self.names.update(names)
        super().add(", ".join(map(flag_of, names)) or path, text)

    def _names(self, path: str) -> tuple[str, ...]:
        inside = [place for place in self._places if path == place or path.startswith(f"{place}.")]
        return (self._places[max(inside, key=len)],) if inside else ()
