"""Entries on their way between tiers, in the two forms that tiers want: objects and encoded bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tiercache.entry import Entry, make_entry
from tiercache.errors import CodecError, ForeignPayload
from tiercache.protocols import Codec

__all__ = ["Batch", "at_longest", "copied", "decoded", "encoded", "payload_of"]


class Batch:
    """Entries under user keys. Each form is made once, when a tier first wants it.

    Without a codec the values are bytes, and both forms are the same dict.
    """

    __slots__ = ("_payloads", "codec", "objects")

    def __init__(
        self,
        objects: dict[str, Entry[Any]],
        codec: Codec[Any] | None,
        payloads: dict[str, Entry[bytes]] | None = None,
    ) -> None:
        self.objects = objects
        self.codec = codec
        self._payloads = objects if codec is None else payloads

    @property
    def payloads(self) -> dict[str, Entry[bytes]]:
        """The entries with encoded values. Raises `CodecError` for a value that its codec refuses."""
        if self._payloads is None:
            codec = self.codec
            assert codec is not None  # noqa: S101 - without a codec there is nothing to make
            self._payloads = {key: encoded(entry, codec) for key, entry in self.objects.items()}
        return self._payloads

    def __len__(self) -> int:
        return len(self.objects)

    def only(self, keys: Iterable[str]) -> Batch:
        """The entries of ``keys``, all of which must be there."""
        keys = list(keys)
        if len(keys) == len(self.objects):
            return self
        objects = {key: self.objects[key] for key in keys}
        payloads = None if self._payloads is None else {key: self._payloads[key] for key in keys}
        return Batch(objects, self.codec, payloads)

    def with_times_of(self, entries: Mapping[str, Entry[Any]]) -> Batch:
        """The same, with the times of those of ``entries`` under their keys, which are all here."""

        def timed(key: str, entry: Entry[Any]) -> Entry[Any]:
            other = entries.get(key)
            if other is None:
                return entry
            return replace(entry, expires_at=other.expires_at, fresh_until=other.fresh_until)

        objects = {key: timed(key, entry) for key, entry in self.objects.items()}
        payloads = self._payloads
        if payloads is not None and self.codec is not None:
            payloads = {key: timed(key, entry) for key, entry in payloads.items()}
        return Batch(objects, self.codec, payloads)

    def detached(self, copy: Callable[[Any], Any], *, objects: bool) -> Batch:
        """The same with values of its own, for use after a caller got these and may change them.
        ``objects``: not only as payloads."""
        if self._payloads is not None and not objects:
            return self
        return Batch(copied(self.objects, copy), self.codec, self._payloads)

    def merged(self, other: Batch) -> Batch:
        """The entries of both, which have no key in common."""
        payloads = None
        if self._payloads is not None and other._payloads is not None:
            payloads = self._payloads | other._payloads
        return Batch(self.objects | other.objects, self.codec, payloads)

    @property
    def is_encoded(self) -> bool:
        """Whether all of it could be stored as bytes at once."""
        return self._payloads is not None

    def add(self, other: Batch) -> None:
        """Take in the entries of ``other``; both are encoded. Whoever had ``objects`` has them too."""
        self.objects.update(other.objects)
        if self.codec is not None:
            assert self._payloads is not None  # noqa: S101 - it is encoded
            self._payloads.update(other.payloads)

    def size(self) -> int:
        """The bytes of all values, as far as they are known."""
        return sum([entry.size or 0 for entry in self.objects.values()])


def encoded(entry: Entry[Any], codec: Codec[Any]) -> Entry[bytes]:
    """``entry`` with its value encoded. Raises `CodecError`, whatever the codec itself raised."""
    payload = payload_of(entry.value, codec)
    return make_entry(
        payload,
        entry.expires_at,
        entry.created_at,
        entry.fresh_until,
        codec.name,
        len(payload),
        entry.sliding,
    )


def payload_of(value: Any, codec: Codec[Any]) -> bytes:
    """``value``, encoded. Raises as `encoded` does."""
    try:
        return codec.encode(value)
    except CodecError:
        raise
    except Exception as error:
        raise CodecError(f"codec {codec.name!r} cannot encode a {type(value).__name__}") from error


def at_longest(entry: Entry[Any], other: Entry[Any]) -> Entry[Any]:
    """``entry``, living for as long as its copy ``other`` in another tier does, if that is longer: a tier's
    cap cuts short what that tier holds, and nothing else. If ``other`` is newer, it is that one."""
    if entry.created_at is None or other.created_at is None or other.created_at < entry.created_at:
        return entry
    if other.created_at > entry.created_at:
        return other
    if entry.expires_at is None or (other.expires_at is not None and other.expires_at <= entry.expires_at):
        return entry
    if entry.sliding is not None:  # renewed in one tier, and not yet in the other
        return replace(entry, expires_at=other.expires_at, fresh_until=other.fresh_until)
    return replace(entry, expires_at=other.expires_at)


def copied(entries: Mapping[str, Entry[Any]], copy: Callable[[Any], Any]) -> dict[str, Entry[Any]]:
    """The entries with values of their own. One that its codec cannot copy is shared, as it was given: nor
    can it be stored anywhere else."""
    own: dict[str, Entry[Any]] = {}
    for key, entry in entries.items():
        try:
            own[key] = replace(entry, value=copy(entry.value))
        except Exception:  # noqa: BLE001 - whatever a codec raises means the same: it cannot
            own[key] = entry
    return own


def decoded(
    payloads: Mapping[str, Entry[bytes]], codec: Codec[Any]
) -> tuple[dict[str, Entry[Any]], list[str], int]:
    """The entries that ``codec`` wrote, decoded; the keys of those that are damaged; and how many are not
    ours to judge: of another codec, of a key or format version that this one does not know."""
    objects: dict[str, Entry[Any]] = {}
    corrupt: list[str] = []
    foreign = 0
    name, decode = codec.name, codec.decode
    for key, entry in payloads.items():
        if entry.codec != name:
            foreign += 1
            continue
        try:
            value = decode(entry.value)
        except (ForeignPayload, MemoryError, RecursionError, SystemError):  # says nothing about the bytes
            foreign += 1
            continue
        except Exception:  # noqa: BLE001 - whatever else a codec raises means the same: the bytes are bad
            corrupt.append(key)
            continue
        objects[key] = Entry(
            value,
            entry.expires_at,
            entry.created_at,
            entry.fresh_until,
            name,
            len(entry.value),
            entry.sliding,
        )
    return objects, corrupt, foreign
