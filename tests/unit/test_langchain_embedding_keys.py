"""Keys of texts: ours, and those that LangChain's own cache writes."""

from __future__ import annotations

import pytest
from langchain_classic.embeddings import CacheBackedEmbeddings
from langchain_core.stores import InMemoryByteStore
from langchain_models import RecordingModel, key_of

from tiercache.errors import ConfigError
from tiercache.integrations.langchain._text_keys import check_texts, encoder_of, text_key

TEXTS = ["", "a", "models/gemini:x", "\u00fc\u4e2d\U0001f600", "line\nbreak\0", "x" * 10_000]


@pytest.mark.filterwarnings("ignore:Using default key encoder:UserWarning")  # SHA-1, which is to be read too
@pytest.mark.parametrize("algorithm", ["sha1", "blake2b", "sha256", "sha512"])
def test_a_name_stands_for_langchains_keys(algorithm):
    store = InMemoryByteStore()
    theirs = CacheBackedEmbeddings.from_bytes_store(
        RecordingModel(), store, namespace="model:", key_encoder=algorithm
    )
    theirs.embed_documents(TEXTS)
    encode = encoder_of(algorithm)
    assert list(store.yield_keys()) == [f"model:{encode(text)}" for text in TEXTS]


def test_the_default_is_a_blake2b_of_any_text():
    assert encoder_of(None) is text_key
    assert text_key("a") == key_of("a")
    keys = {text_key(text) for text in [*TEXTS, "\ud800", "\ud801", "A"]}
    assert len(keys) == len(TEXTS) + 3
    assert {len(key) for key in keys} == {64}


def test_a_function_is_taken_as_it_is():
    assert encoder_of(str.upper) is str.upper


@pytest.mark.parametrize("choice", ["md5", "", 1, ["sha1"]])
def test_anything_else_is_refused(choice):
    with pytest.raises(ConfigError, match="key_encoder"):
        encoder_of(choice)


@pytest.mark.parametrize("texts", ["text", b"text", [b"text"], ["a", None], [1]])
def test_what_is_no_text(texts):
    with pytest.raises(TypeError):
        check_texts(texts)
