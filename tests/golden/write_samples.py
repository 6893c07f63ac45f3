"""Writes the samples of the envelope's current versions; run by hand, once for each version.

Samples of a released version are never written again: what they prove is that bytes written then can be
read now. It refuses to replace one.

    python tests/golden/write_samples.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tiercache.entry import Entry, Sliding
from tiercache.envelope import SIGNED_VERSION, VERSION, Secrets, seal

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
    "sliding": (
        "key",
        Entry(
            b"v",
            expires_at=1700003900.0,
            created_at=1700000000.0,
            fresh_until=1700003600.5,
            sliding=Sliding(3600.0, 86400.0),
        ),
    ),
    "large-payload": ("large", Entry(bytes(range(256)) * 64, created_at=-1.5, codec="vectors-f32")),
}


#: What signs the samples of the signed version; no secret of anybody's.
SECRET = "the secret of the samples"  # noqa: S105 - public by intent


def main() -> None:
    for version, secret in ((VERSION, None), (SIGNED_VERSION, SECRET)):
        for name, (key, entry) in SAMPLES.items():
            path = HERE / f"envelope-v{version}-{name}.bin"
            if path.exists():
                print(f"{path.name} is there and stays as it is")  # noqa: T201 - a script that tells what it did
                continue
            path.write_bytes(seal(key, entry, Secrets.of(secret, "secret")))
            fields = {**asdict(entry), "value": entry.value.hex(), "size": len(entry.value)}
            told = {"key": key, "entry": fields} | ({} if secret is None else {"secret": secret})
            # ASCII, because a lone surrogate in a key cannot be written as UTF-8.
            path.with_suffix(".json").write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
