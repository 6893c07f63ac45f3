"""From a plan to tiers and chains. Goes on after a problem, and can close all that it made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext, suppress
from typing import Any, Generic, TypeVar

from tiercache._guard.guarded import guarded
from tiercache._masking import blot
from tiercache._paths import only_looking
from tiercache._running.bridge import BLOCKING, drive
from tiercache.config._check import ChainPlan, TierPlan
from tiercache.config._options import said
from tiercache.config._problems import Problems, join
from tiercache.protocols import AsyncTier, Tier
from tiercache.registry import tier_maker

__all__ = ["Builder"]

C = TypeVar("C")


class Builder(Generic[C]):
    """Makes what one plan names; ``chain`` makes a chain of tiers."""

    def __init__(self, chain: Callable[..., C], problems: Problems) -> None:
        self._make_chain = chain
        self._problems = problems
        self._made: list[Any] = []
        #: The path of each disk tier under where its entries are: its directory, and the namespaces there.
        self._places: dict[Any, str] = {}
        #: Each that is in the place of another: its path, and that of the other.
        self._twins: list[tuple[str, str]] = []

    def chain(self, plan: ChainPlan) -> C | None:
        """The chain of ``plan``, for the caller to use if there are no problems; some may be added here.

        Where there were some before, all is made to hear what it says of its arguments, and our own tiers
        leave no trace on the machine.
        """
        try:
            with only_looking() if self._problems.any else nullcontext():
                made = self._chain(plan)
            if not self._problems.any:  # what is wrong may be what tells their places apart
                for path, twin in self._twins:
                    self._problems.add(
                        path, f"holds the same entries as {twin}; give each a place of its own"
                    )
            return made
        except BaseException:
            self.close()
            raise

    def _chain(self, plan: ChainPlan, outside: tuple[str, ...] = ()) -> C | None:
        namespace = plan.arguments.get("namespace")
        inside = (*outside, namespace) if namespace else outside
        tiers = [
            self._chain(one, inside) if isinstance(one, ChainPlan) else self._tier(one, inside)
            for one in plan.tiers
        ]
        there = [tier for tier in tiers if tier is not None]
        arguments = dict(plan.arguments)
        if len(there) < len(tiers) or not there:
            # What is missing may be the tier that keeps leases; the other options can be tried on any.
            arguments.pop("lock", None)
            there = there or [tier_maker("memory")()]
        while True:
            refused, made = _tried(self._make_chain, there, **arguments)
            if refused is None:
                # It closes its own.
                self._made = [one for one in self._made if not any(one is tier for tier in there)]
                self._made.append(made)
                found: C = made
                return found
            option = self._tell(plan.path, refused, arguments)
            if option is None:
                return None
            del arguments[option]  # so that it says what else is wrong

    def _tier(self, plan: TierPlan | None, namespaces: tuple[str, ...]) -> Any:
        if plan is None:
            return None
        refused, made = _tried(plan.make, **plan.arguments)
        if refused is not None:
            self._tell(plan.path, refused, plan.given)
            return None
        if not isinstance(made, Tier | AsyncTier):
            self._problems.add(plan.path, f"its type made a {type(made).__name__}, which is no tier")
            return None
        tier = guarded(made, **plan.guard) if plan.guard else made
        self._made.append(tier)
        if _tried(hash, made)[0] is not None:
            self._problems.add(
                plan.path,
                f"its type made a {type(made).__name__}, which has no hash, by which tiers are told apart; "
                "a dataclass has one as @dataclass(eq=False)",
            )
            return None
        # Two of one directory would count, evict and be asked for each entry twice. Rejected: the same of
        # servers, where equal locations are no proof: what a URL leads to is also up to what is in its query.
        if plan.kind == "disk":
            twin = self._places.setdefault((getattr(made, "location", None), namespaces), plan.path)
            if twin != plan.path:
                self._twins.append((plan.path, twin))
        return tier

    def _tell(self, path: str, message: str, given: Mapping[str, Any]) -> str | None:
        """Add what a constructor says; where it begins with the name of an option in ``given``, at that
        option's path. The option."""
        message = re.sub(r"^\w+Tier[.:] ?", "", message)  # whose it is tells the path
        named = re.match(r"(\w+): |the URL ", message)
        option = None if named is None else named[1] or "url"
        if option is None or option not in given:
            self._problems.add(path, blot(message, given))
            return None
        self._problems.add(join(path, option), blot(message.removeprefix(f"{option}: "), given))
        return option

    def close(self) -> None:
        """Close all that was made, the last first."""
        while self._made:
            with suppress(
                Exception
            ):  # what is wrong with the configuration is told, not what follows from it
                drive(_close(self._made.pop()))


def _tried(make: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[str | None, Any]:
    """What ``make`` says is wrong, or ``None`` and what it made. It returns, so that no error of its own is
    behind the one that is raised then: it may show what that one hides."""
    try:
        return None, make(*arguments, **named)
    except Exception as error:  # noqa: BLE001 - what somebody else's raises is told, with where it is
        return said(error), None


async def _close(tier: object) -> None:
    await BLOCKING.port(tier).close()
