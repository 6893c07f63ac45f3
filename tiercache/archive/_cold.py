"""Where an import writes: a chain that takes entries as they are, and whose memory stays cold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tiercache._chain.batch import Batch, encoded
from tiercache._chain.core import Core
from tiercache._chain.member import Member
from tiercache._chain.nested import ChainTier
from tiercache._chain.stack import Stack
from tiercache._running.bridge import Runtime
from tiercache.entry import Entry
from tiercache.errors import CodecError
from tiercache.protocols import Codec, Debt

__all__ = ["Cold", "Verbatim", "is_read", "wants_objects"]


def is_read(core: Core, name: str, sample: Entry[Any] | None) -> bool:
    """Whether reads of ``core`` find imported entries of the codec called ``name``; ``sample`` is one of them
    with its value, where some tier is given values. They do if a tier has it as a hit for all around it."""
    return bool(_given(core, name, None if core.codec is None else core.codec.name, sample))


def _given(core: Core, name: str, own: str | None, sample: Entry[Any] | None) -> set[str]:
    """The names of the codecs of the hits that a chain gives for such an entry, where it reads with the codec
    called ``own``; ``None``: those of a cache of bytes."""
    given: set[str] = set()
    for member in core.members:
        inner = _inside(member)
        if inner is None:
            given.update({name} & {own or "bytes"})
        elif inner.codec is None:  # it has the codec of what is around it
            given |= _given(inner, name, own, sample)
        elif sample is not None and _takes(inner.codec, sample):
            made = _given(inner, inner.codec.name, inner.codec.name, sample)
            if own is not None:  # see `Member.read` for this and what follows
                given |= made & {own, "bytes"}
            elif isinstance(sample.value, bytes):
                given |= made
    return given


def _takes(codec: Codec[Any], entry: Entry[Any]) -> bool:
    try:
        encoded(entry, codec)
    except CodecError:
        return False
    return True


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
