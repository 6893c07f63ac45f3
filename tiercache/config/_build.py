"""From a plan to tiers and chains. Goes on after a problem, and can close all that it made."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from tiercache._bridge import BLOCKING, drive
from tiercache._guarded import guarded
from tiercache.config._check import ChainPlan, TierPlan
from tiercache.config._problems import Problems, blot
from tiercache.errors import ConfigError
from tiercache.protocols import AsyncTier, Tier

__all__ = ["Builder"]

C = TypeVar("C")


class Builder(Generic[C]):
    """Makes what one plan names; ``chain`` makes a chain of tiers."""

    def __init__(self, chain: Callable[..., C], problems: Problems) -> None:
        self._make_chain = chain
        self._problems = problems
        # Decided here, and not tier by tier: one that fails is no reason to be silent on the others.
        self._only_traceless = problems.any
        self._made: list[Any] = []

    def chain(self, plan: ChainPlan) -> C | None:
        """The chain of ``plan``; ``None`` when there are problems, which were added then.

        Where there were some before, only those tiers are made that leave no trace on the machine: to
        hear what they say of their arguments.
        """
        try:
            return self._chain(plan)
        except BaseException:
            self.close()
            raise

    def _chain(self, plan: ChainPlan) -> C | None:
        tiers = [self._chain(one) if isinstance(one, ChainPlan) else self._tier(one) for one in plan.tiers]
        if self._problems.any:
            return None
        try:
            made = self._make_chain(tiers, **plan.arguments)
        except ConfigError as error:
            self._problems.add(plan.path, str(error))
            return None
        self._made.append(made)
        return made

    def _tier(self, plan: TierPlan | None) -> Any:
        if plan is None or (self._only_traceless and not plan.touches_nothing):
            return None
        try:
            made = plan.make(**plan.arguments)
        except (ValueError, TypeError, OSError) as error:  # what else there is, is a defect: to be seen whole
            self._refused(plan, str(error) or type(error).__name__)
            return None
        if not isinstance(made, Tier | AsyncTier):
            self._problems.add(plan.path, f"its type made a {type(made).__name__}, which is no tier")
            return None
        self._made.append(made)
        return guarded(made, **plan.guard) if plan.guard else made

    def _refused(self, plan: TierPlan, message: str) -> None:
        """Add what a constructor says; where it begins with the name of an option, at that option's path."""
        named = re.match(r"(?:\w+Tier[.:] ?)?(\w+): ", message)
        path = plan.path
        if named and named[1] in plan.given:
            path, message = f"{path}.{named[1]}", message[named.end() :]
        message = re.sub(r"^\w+Tier: ", "", message)  # whose it is tells the path
        self._problems.add(path, blot(message, plan.given))

    def close(self) -> None:
        """Close all that was made, the last first."""
        while self._made:
            with suppress(
                Exception
            ):  # what is wrong with the configuration is told, not what follows from it
                drive(_close(self._made.pop()))


async def _close(tier: object) -> None:
    await BLOCKING.port(tier).close()
