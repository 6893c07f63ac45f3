"""From a mapping to a plan: which tiers to make, with which arguments. Makes none of them.

Goes on after a problem, so that all of them are told at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

from tiercache.config._codecs import make_codec
from tiercache.config._models import MODELS, ChainOptions, GuardOptions, RootOptions, ViewOptions
from tiercache.config._options import check_foreign, sound, takes, type_of, validate
from tiercache.config._problems import Problems, join, meant, show
from tiercache.config._sources import CACHES
from tiercache.errors import ConfigError
from tiercache.registry import CHAIN, is_tier, tier_maker, tier_names

__all__ = ["ChainPlan", "TierPlan", "ViewPlan", "check_chain", "check_root"]

#: A chain in a chain has its use; more than these are an alias of YAML that names itself.
_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class TierPlan:
    """One tier: what makes it, and what that is called with.

    ``path`` is its place in the configuration; ``given`` holds its options by the constructor's names,
    with variables expanded; ``guard`` what `guarded` is called with round it, if it is; ``kind`` the type's
    name if it is one of ours.
    """

    path: str
    make: Callable[..., Any]
    arguments: Mapping[str, Any]
    given: Mapping[str, Any]
    guard: Mapping[str, Any] = field(default_factory=dict)
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ChainPlan:
    """A chain: its tiers in order (``None`` for one that cannot be made) and its other arguments."""

    path: str
    tiers: tuple[TierPlan | ChainPlan | None, ...]
    arguments: Mapping[str, Any]


#: A view that has a name: what `TieredCache.view` is called with for it.
ViewPlan: TypeAlias = Mapping[str, Any]


def check_root(
    content: Mapping[Any, Any], folder: Path | None, problems: Problems, path: str
) -> tuple[ChainPlan, dict[str, ViewPlan]]:
    """The plan for ``content`` as far as it is in order, and those of its views.

    What is wrong is added to ``problems``. Relative paths begin at ``folder`` where there is one.
    """
    plan = check_chain(content, folder, problems, path, model=RootOptions)
    views = content.get("views")
    found = {}
    for name, options in views.items() if isinstance(views, Mapping) else ():
        if isinstance(name, str):
            found[name] = _check_view(name, options, folder, problems, join(join(path, "views"), name))
        else:  # as YAML reads 2024, 2024-01-01, on and null
            shown = str(name) if isinstance(name, date) else show(name)
            wrong = f"a name is read as {shown}, which is no text; put it in quotes"
            problems.add(join(path, "views"), wrong)
    return plan, found


def _check_view(name: str, content: Any, folder: Path | None, problems: Problems, path: str) -> ViewPlan:
    if not isinstance(content, Mapping):
        problems.add(
            path, f"found {show(content)}; allowed: a table with {', '.join(ViewOptions.model_fields)}"
        )
        return {}
    options = validate(ViewOptions, content, problems, path) or sound(ViewOptions, content)
    return (
        {} if options is None else {"namespace": name} | _with_codec(options.given(), folder, problems, path)
    )


def _with_codec(
    arguments: dict[str, Any], folder: Path | None, problems: Problems, path: str
) -> dict[str, Any]:
    """``arguments``, with the codec in the place of its name."""
    if "codec" in arguments:
        arguments["codec"] = make_codec(arguments["codec"], folder, problems, join(path, "codec"))
    return arguments


def check_chain(
    content: Mapping[Any, Any],
    folder: Path | None,
    problems: Problems,
    path: str = "",
    depth: int = 0,
    model: type[ChainOptions] = ChainOptions,
) -> ChainPlan:
    """As `check_root`, of any chain."""
    # Tiers or caches is what a source holds at its root: where it has neither, either may be given.
    besides = (CACHES,) if model is RootOptions and not path and "tiers" not in content else ()
    options = validate(model, content, problems, path, besides)
    listed = content.get("tiers") if options is None else options.tiers
    tiers = tuple(
        _check_tier(tier, folder, problems, f"{join(path, 'tiers')}[{index}]", depth)
        for index, tier in enumerate(listed if isinstance(listed, list | tuple) else ())
    )
    # What is in order by itself is looked at further, whatever the rest is.
    options = options or sound(model, {**content, "tiers": [None]})
    if options is None:
        return ChainPlan(path, tiers, {})
    arguments = options.arguments(folder)
    del arguments["tiers"]
    arguments.pop("views", None)
    return ChainPlan(path, tiers, _with_codec(arguments, folder, problems, path))


def _check_tier(
    content: Any, folder: Path | None, problems: Problems, path: str, depth: int
) -> TierPlan | ChainPlan | None:
    if not isinstance(content, Mapping):
        allowed = f"a table with a type ({_known()}) and its options"
        problems.add(path, f"found {show(content)}; allowed: {allowed}")
        return None
    kind, rest = type_of(
        content,
        problems,
        path,
        known=tier_names,
        is_known=is_tier,
        meant=meant,
        options=(*MODELS.values(), ChainOptions),
        register="register_tier",
    )
    if kind is None:
        return None
    if kind == CHAIN:
        if depth == _DEEPEST:
            problems.add(path, f"more than {_DEEPEST} chains inside each other are not allowed")
            return None
        return check_chain(rest, folder, problems, path, depth + 1)
    try:
        make = tier_maker(kind)
    except ConfigError as error:
        problems.add(path, str(error))
        make = None
    model = MODELS.get(kind)
    if model is None:
        return None if make is None else _check_foreign(make, rest, folder, problems, path)
    options = validate(model, rest, problems, path)
    if options is None:
        options = sound(model, rest)
        # Of a file or folder it may be the other options that allow it.
        options = options if options is not None and options.touches_nothing() else None
    if options is None or make is None:
        return None
    return TierPlan(path, make, options.arguments(folder), options.given(), kind=kind)


def _known() -> str:
    return ", ".join(f'"{name}"' for name in tier_names())


def _check_foreign(
    make: Callable[..., Any], content: Mapping[Any, Any], folder: Path | None, problems: Problems, path: str
) -> TierPlan | None:
    """A tier of somebody else: what it has no parameters for, `guarded` may."""
    besides = [name for name in GuardOptions.model_fields if not takes(make, name)]
    own = {key: value for key, value in content.items() if key not in besides}
    given = check_foreign(make, own, folder, problems, path, besides)
    guard = validate(GuardOptions, {key: content[key] for key in besides if key in content}, problems, path)
    if given is None or guard is None:
        return None
    return TierPlan(path, make, given, given, guard.given())
