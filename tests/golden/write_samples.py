"""Writes the samples of the envelope's current version; run by hand, once for each version.

Samples of a released version are never written again: what they prove is that bytes written then can be
read now. It refuses to replace one.

    python tests/golden/write_samples.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tiercache.entry import Entry
from tiercache.envelope import VERSION, seal

HERE = Path(__file__).parent

SAMPLES: dict[str, tuple[str, Entry[bytes]]] = {
    "no-times": ("key", Entry(b"a value")),
    "all-fields": (
        "user/42",
        Entry(
            b'{"a": 1}',
            expires_at=1893456000.25,
            created_at=1700000000.125,
            fresh_until=1800000000.5,
            codec="json",
        ),
    ),
    "never-expires": ("key", Entry(b"\x00\x01\x02", created_at=1700000000.0)),
    "empty-payload": ("empty", Entry(b"", expires_at=4102444800.0, codec="text")),
    "empty-key": ("", Entry(b"under the empty key")),
    "surrogate-key": ("a\ud800b\0c", Entry(b"v", created_at=0.0)),
    "namespaced-key": ("\x1ftc:5:myapp5:users/Zoë", Entry("größe".encode(), codec="text")),
    "long-codec-name": ("key", Entry(b"v", codec="vectors-f32-" + "ü" * 100)),
    "large-payload": ("large", Entry(bytes(range(256)) * 64, created_at=-1.5, codec="vectors-f32")),
}


def main() -> None:
    for name, (key, entry) in SAMPLES.items():
        path = HERE / f"envelope-v{VERSION}-{name}.bin"
        if path.exists():
            print(f"{path.name} is there and stays as it is")  # noqa: T201 - a script that tells what it did
            continue
        path.write_bytes(seal(key, entry))
        fields = {**asdict(entry), "value": entry.value.hex(), "size": len(entry.value)}
        # ASCII, because a lone surrogate in a key cannot be written as UTF-8.
        path.with_suffix(".json").write_text(json.dumps({"key": key, "entry": fields}, indent=2) + "\n")


if __name__ == "__main__":
    main()
