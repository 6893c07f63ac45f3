"""The compressing codec: what went in comes back, and nothing becomes larger than it may."""

from __future__ import annotations

import json
import pickle
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
import pythons
from absent import said_without
from hypothesis import given
from hypothesis import strategies as st

from tiercache import DiskTier, EncodedTier, Entry, TieredCache
from tiercache.codecs import Codec, JSONCodec, TextCodec, VectorCodec, ZstdCodec
from tiercache.envelope import seal
from tiercache.errors import CodecError, ConfigError, ForeignPayload
from tiercache.protocols import SupportsCopy
from tiercache.testing import DictStore

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

SAMPLES = sorted((Path(__file__).parent.parent / "golden").glob("zstd-v*.bin"))
GIB = 1 << 30
LONG = b"again and " * 100


def frame(data: bytes, **options: int) -> bytes:
    """One frame, as somebody else's encoder could write it."""
    parameters = {zstd.CompressionParameter[name]: value for name, value in options.items()}
    return zstd.compress(data, options=parameters or None)


@pytest.fixture(scope="session")
def bombs(tmp_path_factory) -> dict[str, Path]:
    """Files with payloads that become a GiB, one that says so and one that does not."""
    folder = tmp_path_factory.mktemp("bombs")
    part = bytes(1 << 23)
    made = {}
    for name in ("told", "untold"):
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.compression_level: 1})
        if name == "told":
            compressor.set_pledged_input_size(GIB)
        frames = [compressor.compress(part) for _ in range(GIB // len(part))]
        made[name] = folder / name
        made[name].write_bytes(b"".join((b"\1", *frames, compressor.flush())))
    return made


@given(
    st.binary(max_size=300) | st.binary(max_size=20).map(lambda part: part * 40), st.sampled_from([1, 3, 19])
)
def test_bytes_come_back(value, level):
    data = ZstdCodec(level=level).encode(value)
    assert ZstdCodec().decode(data) == value
    assert len(data) <= len(value) + 1


@given(st.lists(st.text() | st.dictionaries(st.text(), st.integers())))
def test_json_comes_back(value):
    codec = ZstdCodec(JSONCodec())
    assert codec.decode(codec.encode(value)) == value


@given(st.lists(st.floats(width=32, allow_nan=False)))
def test_vectors_come_back(value):
    codec = ZstdCodec(VectorCodec())
    assert codec.decode(codec.encode(value)) == value


def test_what_it_is():
    codec = ZstdCodec(JSONCodec(), level=5, max_bytes="1MiB")
    assert isinstance(codec, Codec)
    assert codec.name == "zstd-json"
    assert ZstdCodec().name == "zstd-bytes"
    assert repr(codec) == "ZstdCodec(JSONCodec(), level=5, max_bytes=1048576)"
    assert codec == pickle.loads(pickle.dumps(codec))  # noqa: S301 - our own, of a moment ago
    assert repr(pickle.loads(pickle.dumps(codec))) == repr(codec)  # noqa: S301 - our own, of a moment ago
    assert codec == ZstdCodec(JSONCodec(), level=5, max_bytes=1 << 20)
    assert hash(codec) == hash(ZstdCodec(JSONCodec(), level=5, max_bytes=1 << 20))
    for other in (
        ZstdCodec(TextCodec(), level=5, max_bytes="1MiB"),
        ZstdCodec(JSONCodec(), max_bytes="1MiB"),
    ):
        assert codec != other
    assert codec != ZstdCodec(JSONCodec(), level=5)
    assert codec != JSONCodec()


def test_copies_are_those_of_the_inner_codec():
    value = [[1]]
    copied = ZstdCodec(JSONCodec()).copy(value)
    copied[0].append(2)
    assert value == [[1]]
    assert not isinstance(ZstdCodec(), SupportsCopy)


def test_only_what_gets_smaller_is_compressed():
    codec = ZstdCodec(TextCodec())
    assert codec.encode("short") == b"\0short"
    assert codec.encode("") == b"\0"
    long = "again and " * 100
    assert codec.encode(long)[0] == 1
    assert len(codec.encode(long)) < 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0}, "level: 0"),
        ({"level": 23}, "level: 23"),
        ({"level": True}, "level: True"),
        ({"level": 3.0}, "level: 3.0"),
        ({"max_bytes": 0}, "max_bytes: "),
        ({"max_bytes": "64 parsecs"}, "max_bytes: "),
        ({"max_bytes": sys.maxsize}, "max_bytes: "),
        ({"max_bytes": 2**64}, "max_bytes: "),
        ({"inner": JSONCodec}, "inner: .* is no codec"),
    ],
    ids=str,
)
def test_wrong_arguments(options, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        ZstdCodec(**options)


# -- the bound -------------------------------------------------------------------------------------


def test_what_is_larger_than_the_bound_is_not_written():
    codec = ZstdCodec(max_bytes=1000)
    assert codec.decode(codec.encode(bytes(1000))) == bytes(1000)
    with pytest.raises(CodecError, match="1001 bytes are more than the 1000 of max_bytes"):
        codec.encode(bytes(1001))


@pytest.mark.parametrize("bound", [1, 1000, 1 << 16, (1 << 20) + 1])
def test_the_bound_is_exact(bound):
    codec, roomy = ZstdCodec(max_bytes=bound), ZstdCodec()
    for make in (bytes, lambda size: bytes(range(256)) * (size // 256 + 1)):
        for size in (bound - 1, bound):
            value = make(size)[:size]
            assert codec.decode(roomy.encode(value)) == value
        with pytest.raises(CodecError, match="max_bytes"):
            codec.decode(roomy.encode(make(bound + 1)[: bound + 1]))


@pytest.mark.parametrize("kind", ["told", "untold"])
def test_a_bomb_is_refused_before_its_memory_is_used(kind, bombs):
    """In a process that may not have 48 MiB more than it has; it is shown that a GiB would not fit."""
    bomb = bombs[kind]
    assert bomb.stat().st_size < 40_000
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from tiercache.codecs import ZstdCodec
        from tiercache.errors import CodecError

        codec = ZstdCodec(max_bytes="4MiB")
        codec.decode(codec.encode(bytes(4 << 20)))
        bomb = Path(sys.argv[1]).read_bytes()
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (48 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        try:
            bytes(1 << 30)
        except MemoryError:
            print("limited")
        try:
            codec.decode(bomb)
        except CodecError as error:
            print("refused")
    """)
    done = pythons.run(
        [sys.executable, "-c", code, str(bomb)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("limited\nrefused\n", "")


def test_a_small_frame_that_asks_for_much_memory_is_refused():
    """A frame says how much of the past its decoder has to keep; that memory is taken at once."""
    for window, fits in ((16, True), (24, False)):
        compressor = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window})
        data = b"\1" + compressor.compress(LONG) + compressor.flush()
        assert ZstdCodec(max_bytes="16MiB").decode(data) == LONG
        if fits:
            assert ZstdCodec(max_bytes="64KiB").decode(data) == LONG
        else:
            with pytest.raises(CodecError, match="damaged"):
                ZstdCodec(max_bytes="64KiB").decode(data)


def test_a_bomb_in_a_tier_is_a_miss_and_deleted(bombs):
    store = DictStore()
    cache = TieredCache([EncodedTier(store)], codec=ZstdCodec(max_bytes="1MiB"))
    store.mset({"key": (seal("key", Entry(bombs["untold"].read_bytes(), codec="zstd-bytes")), None)})
    assert cache.get("key") is None
    assert cache.stats().tiers[0].corrupt == 1
    assert store.mget(["key"]) == {}


# -- what is no payload ----------------------------------------------------------------------------


def _that_says(size: int) -> bytes:
    """A frame of `LONG` whose header tells of another size (two bytes, less 256, for frames of this size)."""
    data = frame(LONG)
    assert data[5:7] == (len(LONG) - 256).to_bytes(2, "little")
    return data[:5] + (size - 256).to_bytes(2, "little") + data[7:]


def _with_dictionary() -> bytes:
    dictionary = zstd.ZstdDict(b"again and again, as ever " * 20, is_raw=True)
    return zstd.compress(LONG, zstd_dict=dictionary)


def _with_trained_dictionary() -> bytes:
    samples = [f"{number}: again and {number % 7} as ever".encode() * 3 for number in range(300)]
    return zstd.compress(LONG, zstd_dict=zstd.train_dict(samples, 1024))


SKIPPABLE = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"skip"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        b"\1" + frame(LONG)[:4],
        b"\1" + frame(LONG)[:-1],
        b"\1" + frame(LONG) + b"\0",
        b"\1" + frame(LONG) * 2,
        b"\1" + frame(LONG) + SKIPPABLE,
        b"\1" + SKIPPABLE + frame(LONG),
        b"\1" + SKIPPABLE,
        b"\1" + _that_says(len(LONG) - 1),
        b"\1" + _that_says(len(LONG) + 1),
        b"\1" + _with_trained_dictionary(),
        b"\1" + frame(LONG, checksum_flag=1)[:-4] + bytes(4),
        b"\1\x1f\x8b\x08 not zstd at all",
        b"\1" + bytes(50),
    ],
    ids=[
        "nothing", "no frame", "magic alone", "cut short", "something behind it", "two frames",
        "skippable behind it", "skippable before it", "skippable alone", "says too little", "says too much",
        "a dictionary", "a wrong checksum", "gzip", "zeros",
    ],
)  # fmt: skip
def test_what_is_refused(data):
    with pytest.raises(CodecError) as caught:
        ZstdCodec().decode(data)
    assert type(caught.value) is CodecError
    assert "again" not in str(caught.value)


def test_a_frame_that_refers_to_a_dictionary_without_a_name_never_gives_the_value():
    """Nothing in such a frame tells that it needs one. The envelope is what keeps it out."""
    try:
        assert ZstdCodec().decode(b"\1" + _with_dictionary()) != LONG
    except CodecError as error:
        assert "damaged" in str(error)  # noqa: PT017 - either is right


def test_frames_of_other_encoders_are_read():
    codec = ZstdCodec()
    stream = zstd.ZstdCompressor()
    untold = (
        stream.compress(LONG[:500])
        + stream.flush(zstd.ZstdCompressor.FLUSH_BLOCK)
        + stream.compress(LONG[500:])
        + stream.flush()
    )
    assert zstd.get_frame_info(untold).decompressed_size is None
    for other in (untold, frame(LONG, checksum_flag=1), frame(LONG, compression_level=22)):
        assert codec.decode(b"\1" + other) == LONG
    assert codec.decode(b"\1" + frame(b"")) == b""


@given(st.binary(max_size=80))
def test_any_bytes_give_a_value_or_are_refused(data):
    codec = ZstdCodec(max_bytes=1000)
    with suppress(CodecError):
        assert len(codec.decode(data)) <= 1000


@pytest.mark.parametrize("first", [2, 3, 127, 255])
def test_an_unknown_format_is_not_ours_to_judge(first):
    with pytest.raises(ForeignPayload):
        ZstdCodec().decode(bytes([first]) + frame(LONG))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_can_be_read(sample):
    """Payloads of every released version stay readable, for ever."""
    told = json.loads(sample.with_suffix(".json").read_text())
    value = bytes.fromhex(told["hex"]) if "hex" in told else told["value"]
    inner = {"json": JSONCodec(), "bytes": None}[told["inner"]]
    assert ZstdCodec(inner).decode(sample.read_bytes()) == value
    assert sample.read_bytes()[0] == sample.stem.endswith("frame")


def test_samples_are_there():
    assert [sample.stem for sample in SAMPLES] == [
        "zstd-v1-bytes-empty", "zstd-v1-bytes-frame", "zstd-v1-bytes-raw", "zstd-v1-json-frame",
    ]  # fmt: skip


# -- in a chain ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["short", "again and " * 50])
def test_every_flipped_byte_of_what_a_tier_holds_is_a_miss(value):
    """The codec has no checksum of its own: the envelope's covers its bytes."""
    store = DictStore()
    cache = TieredCache([EncodedTier(store)], codec=ZstdCodec(TextCodec()))
    cache.set("key", value)
    sealed = store.mget(["key"])["key"]
    for at in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[at] ^= 0x10
        store.mset({"key": (bytes(damaged), None)})
        assert cache.get("key") is None, at
    store.mset({"key": (sealed, None)})
    assert cache.get("key") == value


def test_a_disk_holds_less(tmp_path):
    value = [{"name": f"name {number % 5}", "text": "the same words again"} for number in range(2000)]
    with TieredCache([DiskTier(tmp_path)], codec=ZstdCodec(JSONCodec())) as cache:
        cache.set("key", value)
        assert cache.get("key") == value
        assert cache.view("other", codec=JSONCodec()).get("key") is None
        (entry,) = cache._stack.guards[0].tier.mget(["key"]).values()
        assert entry.codec == "zstd-json"
        assert entry.size < len(JSONCodec().encode(value)) / 10


def test_a_configuration_names_it():
    cache = TieredCache.from_config({"tiers": [{"type": "memory"}], "codec": "zstd-json"})
    assert cache.codec == ZstdCodec(JSONCodec())
    cache.close()


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the standard library has it")
def test_without_the_package_it_says_what_to_type():
    said = said_without("backports.zstd", code="ZstdCodec()", given="from tiercache.codecs import ZstdCodec")
    assert said == (
        "ZstdCodec needs the package 'backports.zstd', which is not installed: "
        'pip install "tiercache-framework[zstd]"\n'
    )


def test_the_same_around_another_codec_of_that_name():
    """As the command has it, to read values as the bytes that the inner codec made."""

    class Payload:
        name = "json"
        encode = decode = staticmethod(bytes)

    codec = ZstdCodec(JSONCodec(), level=7)
    plain = codec.around(Payload())
    assert plain.name == codec.name
    assert plain.decode(codec.encode([1, 2])) == b"[1,2]"
    assert codec.decode(plain.encode(b"[1, 2]")) == [1, 2]
    assert hasattr(codec, "copy")
    assert not hasattr(plain, "copy")  # bytes need none
    assert plain.around(JSONCodec()) == codec
    with pytest.raises(ConfigError, match=r"inner: 'text' is not 'json'"):
        codec.around(TextCodec())
