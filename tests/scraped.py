"""What a scrape of a collector gets."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tiercache.observability.prometheus import CacheCollector

__all__ = ["NOT_BASE", "exposed", "samples", "value"]

#: Units that Prometheus wants no metrics in.
NOT_BASE = re.compile(r"_(ms|milliseconds|us|ns|minutes|hours|kb|mb|kilobytes|megabytes|percent)(_|$)")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def exposed(collector: CacheCollector) -> str:
    """What a scrape gets."""
    registry = CollectorRegistry()
    registry.register(collector)
    return generate_latest(registry).decode()


def samples(text: str) -> Samples:
    """The values in ``text``, by name and labels; each is there once."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            at = (sample.name, frozenset(sample.labels.items()))
            assert at not in found, at
            found[at] = sample.value
    return found


def value(values: Samples, name: str, **labels: str) -> float:
    return values[name, frozenset(labels.items())]
