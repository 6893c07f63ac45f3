"""Writes the samples of the encrypted and compressed payloads; run by hand, once for each version.

Samples of a released version are never written again, and this refuses to replace one. Both formats have
bytes that differ each time (a nonce, or what a release of zstd makes of them): what a sample proves is that
it can be read.

    python tests/golden/write_codec_samples.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tiercache.codecs import EncryptedCodec, JSONCodec, TextCodec, ZstdCodec

HERE = Path(__file__).parent
#: No keys of anybody's.
KEYS = {size: bytes(range(size)).hex() for size in (16, 24, 32)}
ENCRYPTED: dict[str, tuple[Any, str, Any]] = {
    "bytes": (None, KEYS[16], b"\x00\xff a value"),
    "json": (JSONCodec(), KEYS[32], {"a": [1, "größe", None]}),
    "text": (ZstdCodec(TextCodec()), KEYS[24], "again and " * 30),
}
COMPRESSED: dict[str, tuple[Any, Any]] = {
    "bytes-frame": (None, b"\x00\x01\x02\x03" * 500),
    "bytes-raw": (None, b"too short"),
    "bytes-empty": (None, b""),
    "json-frame": (JSONCodec(), [{"name": "größe", "number": number} for number in range(40)]),
}


def main() -> None:
    for name, (inner, key, value) in ENCRYPTED.items():
        codec = EncryptedCodec(inner, key=key)
        told = {"inner": codec.inner.name, "key": key, "plain": codec.inner.encode(value).hex()}
        _write(f"encrypted-v1-{name}", codec.encode(value), told | _told(value))
    for name, (inner, value) in COMPRESSED.items():
        codec = ZstdCodec(inner)
        _write(f"zstd-v1-{name}", codec.encode(value), {"inner": codec.inner.name} | _told(value))


def _told(value: Any) -> dict[str, Any]:
    return {"hex": value.hex()} if isinstance(value, bytes) else {"value": value}


def _write(name: str, data: bytes, told: dict[str, Any]) -> None:
    path = HERE / f"{name}.bin"
    if path.exists():
        print(f"{path.name} is there and stays as it is")  # noqa: T201 - a script that tells what it did
        return
    path.write_bytes(data)
    path.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
