"""The archive's format: what was written by every version can be read, and what is damaged is told apart."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiercache import ArchiveError, Entry
from tiercache.archive._format import MAGIC, VERSION, End, Header, Item, Page, Reader, Writer

GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLES = sorted(GOLDEN.glob("archive-v*.bin"))


def _script():
    spec = importlib.util.spec_from_file_location("write_archive_sample", GOLDEN / "write_archive_sample.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SAMPLE = _script()


def archive(*items, end=None):
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.header(Header(1.0, "disk", ("",), "0"))
    writer.page(Page(2.0, None))
    for item in items:
        writer.item(item)
    writer.end(len(items) if end is None else end)
    return stream.getvalue()


def records(data):
    return list(Reader(io.BytesIO(data)))


def item(key, value=b"value"):
    return Item((), key, Entry(value, size=len(value)))


# -- golden ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_can_be_read(sample):
    header, *rest, end = records(sample.read_bytes())
    said = json.loads(sample.with_suffix(".json").read_text())
    expected = said.pop(0)["header"]
    assert header == Header(**{**expected, "namespace": tuple(expected["namespace"])})
    for record, one in zip(rest, said, strict=True):
        if "page" in one:
            assert record == Page(**one["page"])
        else:
            value = bytes.fromhex(one["entry"].pop("value"))
            entry = Entry(value, **one["entry"], size=len(value))
            assert record == Item(tuple(one["path"]), one["key"], entry)
    assert end == End(sum("key" in one for one in said))


def test_the_current_version_has_its_sample_and_is_written_so():
    assert SAMPLES[-1].name == f"archive-v{VERSION}.bin"
    stream = io.BytesIO()
    SAMPLE.write(stream)
    assert stream.getvalue() == SAMPLES[-1].read_bytes()


# -- what goes in comes out ------------------------------------------------------------------------

times = st.none() | st.floats(allow_nan=False)
texts = st.text(st.characters(), max_size=20)  # with lone surrogates
entries = st.builds(
    lambda value, expires, created, fresh, codec: Entry(value, expires, created, fresh, codec, len(value)),
    st.binary(max_size=50), times, times, times, st.text(max_size=20),
)  # fmt: skip
items = st.builds(Item, st.lists(texts, max_size=3).map(tuple), texts, entries)


@given(st.lists(items, max_size=5))
def test_entries_come_out_as_they_went_in(some):
    _, _, *found, end = records(archive(*some))
    assert found == some
    assert end == End(len(some))


# -- damage ----------------------------------------------------------------------------------------

WHOLE = archive(item("a"), item("b", b"x" * 40), item("c", b""))


def test_every_bit_that_is_changed_is_found_and_its_place_told():
    boundaries = [0]
    reader = Reader(io.BytesIO(WHOLE))
    boundaries.extend(reader.offset for _ in reader)
    for place in range(len(WHOLE)):
        if place == len(MAGIC) + 1:
            continue  # the byte of the preamble that is reserved
        for bit in range(8):
            data = bytearray(WHOLE)
            data[place] ^= 1 << bit
            reader = Reader(io.BytesIO(data))
            with pytest.raises(ArchiveError) as raised:
                list(reader)
            assert raised.value.offset <= place
            assert raised.value.offset == reader.offset in {*boundaries, 16}
            assert f"byte {reader.offset:,}" in str(raised.value)


def test_every_place_at_which_it_is_cut_short_is_told():
    whole = records(WHOLE)
    for length in range(len(WHOLE)):
        reader = Reader(io.BytesIO(WHOLE[:length]))
        found = []
        with pytest.raises(ArchiveError, match=r"ends there|is empty") as raised:
            found.extend(reader)  # as far as it goes
        assert found == whole[: len(found)]
        assert raised.value.truncated or length == 0
        assert raised.value.offset <= length
        assert raised.value.entries == reader.entries


def test_entries_before_the_place_are_handed_out():
    found = []
    with pytest.raises(ArchiveError, match="after 2 whole entries"):
        found.extend(Reader(io.BytesIO(WHOLE[:-40])))
    assert [one.key for one in found if isinstance(one, Item)] == ["a", "b"]


def test_a_length_is_not_believed_before_it_is_verified():
    class Counting(io.BytesIO):
        asked = 0

        def read(self, size=-1):
            Counting.asked = max(Counting.asked, size)
            return super().read(size)

    data = bytearray(WHOLE)
    data[17:21] = b"\xff\xff\xff\xff"
    with pytest.raises(ArchiveError, match="damaged"):
        list(Reader(Counting(data)))
    assert Counting.asked < 100
    head = b"H" + b"\xff\xff\xff\xff"  # with the right checksum, and nothing behind it
    forged = WHOLE[:16] + head + crc32(head).to_bytes(4, "little") + b"x"
    with pytest.raises(ArchiveError, match="ends there"):
        list(Reader(Counting(forged)))
    assert Counting.asked <= 1 << 20


def _split(data):
    """The preamble, and the records behind it."""
    parts, reader = [data[:16]], Reader(io.BytesIO(data))
    before = 16
    for _ in reader:
        parts.append(data[before : reader.offset])
        before = reader.offset
    return parts


@pytest.mark.parametrize(
    "shuffled",
    [
        lambda parts: [*parts[:3], *parts[4:]],
        lambda parts: [*parts[:3], parts[4], parts[3], *parts[5:]],
        lambda parts: [*parts[:4], parts[3], *parts[4:]],
    ],
    ids=["left out", "exchanged", "twice"],
)
def test_records_that_are_not_in_their_place_are_found(shuffled):
    with pytest.raises(ArchiveError, match="damaged"):
        records(b"".join(shuffled(_split(WHOLE))))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"PK\x03\x04 and more of it", "no archive of tiercache"),
        (WHOLE.replace(b"\r\n", b"\n", 1), "no archive of tiercache"),
        (WHOLE[: len(MAGIC)] + b"\x02" + WHOLE[len(MAGIC) + 1 :], "format version 2; .* reads version 1"),
        (WHOLE + b"x", "something behind its end"),
        (archive(item("a"), end=2), "says that it holds 2 entries and holds 1"),
    ],
)
def test_what_is_no_whole_archive_of_ours_is_told(data, message):
    with pytest.raises(ArchiveError, match=message):
        records(data)


def _with_record(kind, body):
    stream = io.BytesIO()
    writer = Writer(stream)
    writer.header(Header(1.0, "disk", ("",), "0"))
    writer._record(kind, body)
    writer.end(0)
    return stream.getvalue()


def test_kinds_of_later_versions_are_skipped_in_lower_case_and_refused_in_upper():
    assert [type(one) for one in records(_with_record(b"n", b"a note"))] == [Header, End]
    with pytest.raises(ArchiveError, match=r"of a kind, b'N', that this tiercache does not know"):
        records(_with_record(b"N", b"a note"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"E", b"short"),
        (b"E", bytes(26) + b"\xff\xff\xff\xff"),
        (b"P", b"[]"),
        (b"P", b"{}"),
        (b"P", b"\xff"),
        (b"H", b"{}"),
    ],
)
def test_a_record_that_makes_no_sense_is_told_though_its_checksum_is_right(kind, body):
    with pytest.raises(ArchiveError, match=r"makes no sense|header is not where"):
        records(_with_record(kind, body))


def test_what_does_not_fit_into_the_format_is_refused():
    deep = Item(("n",) * 256, "key", Entry(b"v"))
    with pytest.raises(ArchiveError, match="does not fit"):
        Writer(io.BytesIO()).item(deep)
    with pytest.raises(ArchiveError, match="does not fit"):
        Writer(io.BytesIO()).item(Item((), "key", Entry(b"v", codec="c" * 256)))
