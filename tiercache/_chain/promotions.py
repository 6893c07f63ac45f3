"""What is promoted behind the callers: the hits of one look-up, and of others that came with it.

Hits of single keys come one by one, and each would be a transaction of its own in the tier that takes them,
which takes as long for one entry as for ten. So look-ups that wait for the promoter together are promoted
together, as far as nothing is lost by that: where their tickets are the same, so that none of them is
suppressed for what was written before it was read. And in tiers alone that keep fences, as the disk tier
does: to one of somebody else's a hundred entries may be a hundred times as much work, with one deadline.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from tiercache._chain.batch import Batch
from tiercache._chain.journal import Fences
from tiercache._chain.member import Member

__all__ = ["Promotion"]

#: What is promoted together: a write of any of these keys waits until all are stored.
_MOST_ENTRIES: Final = 128
_MOST_BYTES: Final = 2**20


class Promotion:
    """A job for the promoter: ``promote`` is called with what is to rise ``behind`` the caller, a ticket that
    is the job's own, how many look-ups have one like it, and what the durable tiers said."""

    __slots__ = ("_promote", "behind", "fences", "size", "ticket", "tickets")

    def __init__(
        self,
        promote: Callable[[list[tuple[Member, Batch]], int, int, Fences], None],
        behind: list[tuple[Member, Batch]],
        ticket: int,
        fences: Fences,
        size: int,
    ) -> None:
        self._promote = promote
        self.behind = behind
        self.ticket = ticket
        self.tickets = 1
        self.fences = fences
        self.size = size

    def __call__(self) -> None:
        """Promote them."""
        self._promote(self.behind, self.ticket, self.tickets, self.fences)

    def join(self, job: object) -> bool:
        """Promote what ``job`` would as well, if it can be; whether it can. See `WorkQueue`."""
        if not (
            isinstance(job, Promotion)
            and job.ticket == self.ticket
            and job.size + self.size <= _MOST_BYTES
            and job.fences.tickets == self.fences.tickets
            and len(job.behind) == len(self.behind)
        ):
            return False
        for (member, mine), (other, more) in zip(self.behind, job.behind, strict=True):
            if (
                member is not other  # of another view
                or not member.has_fences
                or len(mine) + len(more) > _MOST_ENTRIES
                or not (
                    mine.is_encoded and more.is_encoded
                )  # a value that its codec refuses is alone in that
                or not mine.objects.keys().isdisjoint(more.objects)
            ):
                return False
        if self.tickets == 1:  # from here on they are our own: a caller may be looking at them
            self.behind = [(member, _copy(batch)) for member, batch in self.behind]
        for (_, mine), (_, more) in zip(self.behind, job.behind, strict=True):
            mine.add(more)
        self.tickets += job.tickets
        self.size += job.size
        return True


def _copy(batch: Batch) -> Batch:
    return batch.merged(Batch({}, batch.codec, {}))
