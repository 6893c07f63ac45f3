"""What the tests of `CachedEmbeddings` begin with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_models import RecordingModel, over

from tiercache import TieredCache
from tiercache.testing import DictStore


@pytest.fixture
def store() -> DictStore:
    return DictStore()


@pytest.fixture
def cache(store: DictStore) -> Iterator[TieredCache[Any]]:
    with over(store) as cache:
        yield cache


@pytest.fixture
def model() -> RecordingModel:
    return RecordingModel()
