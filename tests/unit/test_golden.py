"""Envelopes of every released version stay readable, for ever and to the bit.

If one of these fails, the envelope has changed: give it a new version and keep reading the old one. The
samples are never written again.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from selections import together

from tiercache.entry import Entry, Sliding
from tiercache.envelope import SIGNED_VERSION, Secrets, open_envelopes, seal

GOLDEN = Path(__file__).parent.parent / "golden"
SAMPLES = sorted(GOLDEN.glob("envelope-v*.bin"))


def _expected(sample: Path) -> tuple[str, Entry[bytes], Secrets | None]:
    table = json.loads(sample.with_suffix(".json").read_text())
    entry = Entry(**{**table["entry"], "value": bytes.fromhex(table["entry"]["value"])})
    if entry.sliding is not None:
        entry = replace(entry, sliding=Sliding(*entry.sliding))
    return table["key"], entry, Secrets.of(table.get("secret"), "secret")


@together("sample", SAMPLES)
def test_a_sample_can_be_read(sample):
    key, entry, secrets = _expected(sample)
    assert open_envelopes([(key, sample.read_bytes())], 0.0, secrets).entries == {key: entry}


@together("sample", SAMPLES)
def test_the_current_versions_are_written_as_their_samples_are(sample):
    key, entry, secrets = _expected(sample)
    assert seal(key, entry, secrets) == sample.read_bytes()


def test_every_version_has_its_samples():
    versions = [int(sample.name.split("-")[1][1:]) for sample in SAMPLES]
    assert set(versions) == set(range(1, SIGNED_VERSION + 1))
    assert all(versions.count(version) >= 9 for version in set(versions))
