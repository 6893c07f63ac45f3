"""Writes the sample of the archive's current version; run by hand, once for each version.

As with `write_samples`, that of a released version is never written again.

    python tests/golden/write_archive_sample.py
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tiercache.archive._format import VERSION, Header, Item, Page, Writer
from tiercache.entry import Entry

HERE = Path(__file__).parent

HEADER = Header(created_at=1700000000.5, tier="disk", namespace=("app", "ü\ud800"), version="0.1.0")
PAGES = [
    (
        Page(at=1700000000.75, cursor={"tuple": [0, None]}),
        [
            Item((), "", Entry(b"under the empty key")),
            Item((), "a\ud800b\0c", Entry(b"\x00\x01\xff", created_at=0.0)),
            Item(
                ("users", ""),
                "42",
                Entry(b'{"a": 1}', 1893456000.25, 1700000000.125, 1800000000.5, "json"),
            ),
        ],
    ),
    (
        Page(at=1700000001.0, cursor={"tuple": [0, {"bytes": "AAEC"}]}),
        [
            Item(("vectors",), "empty", Entry(b"", expires_at=4102444800.0, codec="vectors-" + "ü" * 100)),
            Item((), "large", Entry(bytes(range(256)) * 64, created_at=-1.5)),
        ],
    ),
]


def write(stream) -> None:
    """The sample, as the current version writes it."""
    writer = Writer(stream)
    writer.header(HEADER)
    for page, items in PAGES:
        writer.page(page)
        for item in items:
            writer.item(item)
    writer.end(sum(len(items) for _, items in PAGES))


def described() -> list[object]:
    """What is in it, for JSON."""
    records: list[object] = [{"header": HEADER._asdict()}]
    for page, items in PAGES:
        records.append({"page": page._asdict()})
        for item in items:
            entry = asdict(item.entry)
            entry["value"] = entry["value"].hex()
            del entry["size"]
            records.append({"path": list(item.path), "key": item.key, "entry": entry})
    return records


if __name__ == "__main__":
    sample = HERE / f"archive-v{VERSION}.bin"
    if sample.exists():
        raise SystemExit(f"{sample.name} is there already; a sample is never written again")
    with sample.open("wb") as stream:
        write(stream)
    sample.with_suffix(".json").write_text(json.dumps(described(), indent=1) + "\n")
