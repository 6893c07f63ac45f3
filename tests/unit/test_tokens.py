"""Token usage as providers tell it: each form that is known, and answers of any other form."""

from __future__ import annotations

from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
from selections import together

from tiercache.tokens import TokenUsage, estimate

CHAT = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 60}}
RESPONSE = {"input_tokens": 100, "output_tokens": 7, "input_tokens_details": {"cached_tokens": 60}}
GEMINI = {"prompt_token_count": 100, "candidates_token_count": 5, "thoughts_token_count": 2}
MESSAGE = {
    "input_tokens": 40, "output_tokens": 7, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 30,
    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
}  # fmt: skip
LANGCHAIN = {
    "input_tokens": 130, "output_tokens": 7, "total_tokens": 137,
    "input_token_details": {"cache_read": 60, "cache_creation": 30, "ephemeral_1h_input_tokens": 20},
}  # fmt: skip


@together(
    ("usage", "expected"),
    [
        (CHAT, TokenUsage(40, 7, 60)),
        ({"prompt_tokens": 9, "total_tokens": 9}, TokenUsage(9)),  # of embeddings
        ({**CHAT, "prompt_tokens_details": None}, TokenUsage(100, 7)),
        (RESPONSE, TokenUsage(40, 7, 60)),
        ({**GEMINI, "cached_content_token_count": 60}, TokenUsage(40, 7, 60)),
        ({"promptTokenCount": 100, "candidatesTokenCount": 7}, TokenUsage(100, 7)),
        (MESSAGE, TokenUsage(40, 7, 60, 10, 20)),
        ({**MESSAGE, "cache_creation": None}, TokenUsage(40, 7, 60, 30)),
        ({"input_tokens": 40, "output_tokens": 7}, TokenUsage(40, 7)),
        (LANGCHAIN, TokenUsage(40, 7, 60, 10, 20)),
        ({"input_tokens": 5, "output_tokens": 1, "input_token_details": {}}, TokenUsage(5, 1)),
    ],
)
def test_every_known_form_is_read_wherever_it_stands(usage, expected):
    for answer in (
        usage,
        SimpleNamespace(**usage),
        {"usage": usage},
        SimpleNamespace(usage=SimpleNamespace(**usage), content="…"),
        SimpleNamespace(usage_metadata=usage),
        SimpleNamespace(llm_output={"token_usage": usage}),
        SimpleNamespace(response_metadata={"token_usage": usage}),
    ):
        assert TokenUsage.of(answer) == expected


class Evil:
    def __getattr__(self, name):
        raise RuntimeError(name)


@together(
    "answer",
    [None, 7, "text", b"bytes", [], {}, {"usage": None}, {"usage": {"prompt_tokens": "many"}}, Evil(),
     {"prompt_tokens": True}, {"prompt_tokens": -1}],
)  # fmt: skip
def test_an_answer_that_tells_nothing_is_no_error(answer):
    assert TokenUsage.of(answer) is None


def test_no_count_is_ever_below_zero():
    odd = {"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 60}}
    assert TokenUsage.of(odd) == TokenUsage(0, 0, 60)


USAGES = st.builds(TokenUsage, *[st.integers(0, 9)] * 5, estimated=st.booleans())


@given(USAGES, USAGES)
def test_sums(one, other):
    both = one + other
    assert both.total == one.total + other.total
    assert both.cache_write_1h == one.cache_write_1h + other.cache_write_1h
    assert both.estimated == (one.estimated or other.estimated)
    assert one + TokenUsage() == one


@together(("text", "tokens"), [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("ä" * 4, 2), ("\ud800", 1)])
def test_an_estimate_is_a_token_for_four_bytes(text, tokens):
    assert estimate(text) == tokens
