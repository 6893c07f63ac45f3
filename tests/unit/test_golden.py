"""Envelopes of every released version stay readable, for ever and to the bit.

If one of these fails, the envelope has changed: give it a new version and keep reading the old one. The
samples are never written again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiercache.entry import Entry
from tiercache.envelope import VERSION, open_envelopes, seal

GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLES = sorted(GOLDEN.glob("envelope-v*.bin"))


def _expected(sample: Path) -> tuple[str, Entry[bytes]]:
    table = json.loads(sample.with_suffix(".json").read_text())
    fields = table["entry"]
    return table["key"], Entry(**{**fields, "value": bytes.fromhex(fields["value"])})


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.stem)
def test_a_sample_can_be_read(sample):
    key, entry = _expected(sample)
    assert open_envelopes([(key, sample.read_bytes())], now=0.0).entries == {key: entry}


@pytest.mark.parametrize(
    "sample", sorted(GOLDEN.glob(f"envelope-v{VERSION}-*.bin")), ids=lambda sample: sample.stem
)
def test_the_current_version_is_written_as_its_samples_are(sample):
    key, entry = _expected(sample)
    assert seal(key, entry) == sample.read_bytes()


def test_every_version_has_its_samples():
    versions = {int(sample.name.split("-")[1][1:]) for sample in SAMPLES}
    assert versions == set(range(1, VERSION + 1))
    assert len(SAMPLES) >= 9
