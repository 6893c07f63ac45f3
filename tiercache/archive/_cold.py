"""Where an import writes: a chain that takes entries as they are, and whose memory stays cold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiercache._chain.batch import Batch
from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._chain.nested import ChainTier
from tiercache._chain.stack import Stack
from tiercache._running.bridge import Runtime
from tiercache.protocols import Codec, Debt

__all__ = ["Cold", "Verbatim", "codecs_read", "wants_objects"]


def codecs_read(core: Core, outside: str = "bytes") -> list[str]:
    """The names of the codecs whose entries are hits for ``core``: its own, or else that of the chain
    ``outside``; and what chains inside have of their own, who read with it whatever is around them."""
    own = outside if core.codec is None else core.codec.name
    inside = filter(None, map(_inside, core.members))
    return list(dict.fromkeys([own, *(name for one in inside for name in codecs_read(one, own))]))


@dataclass(frozen=True, slots=True)
class Verbatim:
    """A codec of bytes that another one made, for tiers that keep bytes alone."""

    name: str

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, data: bytes) -> bytes:
        return data

    @property
    def core_for_copies(self) -> type[Core]:
        """See `ChainTier.with_codec`."""
        return Cold


class _Emptied:
    """Memory above another tier, as a member that drops what it has of the keys that are written.

    Rejected: writing to it as well. It would decode all that goes by, to keep the last of it, in a process
    that often does nothing else.
    """

    def __init__(self, member: Member) -> None:
        self._member = member

    def __getattr__(self, name: str) -> Any:
        return getattr(self._member, name)

    async def write(
        self, runtime: Runtime, batch: Batch, *, promotion: bool = False, debts: Sequence[Debt] = ()
    ) -> tuple[int, Exception | None]:
        del promotion, debts  # of tiers that store
        failure = await self._member.delete(runtime, batch.objects, counted=False)
        return (0 if failure else len(batch)), failure


class Cold(Core):
    """A view of a stack that leaves memory above other tiers empty."""

    def __init__(self, stack: Stack, path: tuple[str, ...], codec: Codec[Any] | None) -> None:
        super().__init__(stack, path, codec)
        emptied: list[Any] = [
            _Emptied(member) if _can_be_empty(member, stack) else member for member in self.members
        ]
        self.members = tuple(emptied)


def _can_be_empty(member: Member, stack: Stack) -> bool:
    return member.fast is not None and member.depth < len(stack.guards) - 1


def wants_objects(core: Core) -> bool:
    """Whether some tier, also of a chain inside, keeps the objects that bytes stand for."""
    return any(
        not member.stores_bytes and not _can_be_empty(member, core.stack) and not _takes_bytes(member)
        for member in core.members
    )


def _takes_bytes(member: Member) -> bool:
    inner = _inside(member)
    return inner is not None and inner.codec is None and not wants_objects(inner)


def _inside(member: Member) -> Core | None:
    """What a chain inside stands on."""
    tier = member.guard.tier
    return tier._core if isinstance(tier, ChainTier) else None  # noqa: SLF001 - a chain tells nobody outside what its tiers keep
