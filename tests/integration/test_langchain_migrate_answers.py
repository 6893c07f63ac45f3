"""Out of an ``SQLiteCache`` that LangChain has filled, into `LLMCache`."""

from __future__ import annotations

import json
import sqlite3

import pytest
from counting_model import CountingModel, SerializableModel
from langchain_core.language_models import FakeListLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.prompts import PromptTemplate
from langchain_sources import SQLiteCache, bytes_of

from tiercache import ConfigError, DiskTier, MemoryTier, TieredCache
from tiercache.integrations.langchain.llm_cache import LLMCache
from tiercache.integrations.langchain.migrate import from_sqlite_cache


@pytest.fixture
def old(tmp_path):
    cache = SQLiteCache(str(tmp_path / "langchain.db"))
    yield cache
    cache.engine.dispose()


@pytest.fixture
def new(tmp_path):
    with TieredCache([MemoryTier(), DiskTier(tmp_path / "new")]) as cache:
        yield LLMCache(cache)


def migrate(tmp_path, new, **options):
    return from_sqlite_cache(tmp_path / "langchain.db", new, progress=False, **options)


def reasons(report):
    return {item.reason: item.count for item in report.skipped}


CONVERSATIONS = [
    "a question",
    [SystemMessage("be brief"), HumanMessage("who?")],
    [
        HumanMessage("what is 6 x 7?"),
        AIMessage("", tool_calls=[{"name": "multiply", "args": {"lc": 1, "b": 7}, "id": "call-1"}]),
        ToolMessage("42", tool_call_id="call-1"),
    ],
    "x" * 20_000 + "\n\u00fc \U0001f600",
]


@pytest.mark.parametrize("kind", [CountingModel, SerializableModel])
def test_answers_of_chat_models_are_hits(kind, old, new, tmp_path):
    model = kind(cache=old)
    answers = [model.invoke(conversation) for conversation in CONVERSATIONS]
    old.engine.dispose()
    before = bytes_of(tmp_path / "langchain.db")
    report = migrate(tmp_path, new, batch_size=2)
    assert (report.copied, report.already_there, report.skipped) == (len(CONVERSATIONS), 0, ())
    assert bytes_of(tmp_path / "langchain.db") == before

    model = kind(cache=new)
    again = [model.invoke(conversation) for conversation in CONVERSATIONS]
    assert [message.content for message in again] == [message.content for message in answers]
    assert [message.response_metadata for message in again] == [m.response_metadata for m in answers]
    assert model.asked == []

    report = migrate(tmp_path, new)
    assert (report.copied, report.already_there) == (0, len(CONVERSATIONS))


def test_a_migration_is_no_look_up_and_saves_nothing(old, new, tmp_path):
    CountingModel(cache=old).invoke("a question")
    before = new.stats()
    migrate(tmp_path, new)
    migrate(tmp_path, new)
    assert new.stats() == before


def test_answers_of_plain_models_are_hits(old, new, tmp_path):
    model = FakeListLLM(responses=["first", "second"], cache=old)
    assert model.invoke("a question") == "first"
    migrate(tmp_path, new)
    model.cache = new
    assert model.invoke("a question") == "first"
    assert model.invoke("another question") == "second"


def test_several_generations_keep_their_order(old, new, tmp_path):
    generations = [Generation(text=f"answer {n}", generation_info={"n": n}) for n in range(12)]
    old.update("prompt", "llm", generations)
    assert migrate(tmp_path, new).copied == 1
    assert new.lookup("prompt", "llm") == generations


def test_a_users_own_dict_comes_through(old, new, tmp_path):
    extra = {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "x"], "kwargs": {}}
    message = AIMessage("hi", additional_kwargs={"theirs": extra, "deep": [{"more": extra}]})
    old.update("prompt", "llm", [ChatGeneration(message=message)])
    assert migrate(tmp_path, new).copied == 1
    (generation,) = new.lookup("prompt", "llm")
    assert generation.message.additional_kwargs == {"theirs": extra, "deep": [{"more": extra}]}


def _constructor(*path, **fields):
    return {"lc": 1, "type": "constructor", "id": list(path), "kwargs": fields}


def test_what_is_no_answer_is_skipped_and_nothing_is_made_of_it(old, new, tmp_path):
    old.update("good", "llm", [Generation(text="fine")])
    template = json.loads(dumps(PromptTemplate.from_template("{x}")))
    secret = {"lc": 1, "type": "secret", "id": ["PATH"]}
    chat = ("langchain", "schema", "output", "ChatGeneration")
    message = ("langchain", "schema", "messages", "AIMessage")
    nested = _constructor(*message, content="x", additional_kwargs=secret)
    rows = {
        "raw text of an older format": "corrupt JSON",
        "[" * 100_000: "corrupt JSON",
        '"text"': "not the JSON of a generation",
        json.dumps(template): "a class that is not LangChain's own",
        json.dumps(_constructor("os", "system", command="true")): "a class that is not LangChain's own",
        json.dumps(_constructor("langchain", "schema", "document", "Document", page_content="x")): (
            "a Document is no generation that is kept"
        ),
        json.dumps(_constructor(*chat, message=_constructor(*message[:3], "HumanMessage", content="x"))): (
            "a message of class HumanMessage is not kept"
        ),
        json.dumps(_constructor(*chat, message=nested)): "an object within the answer",
        json.dumps(_constructor(*chat, message=_constructor(*message, content=7))): "no AIMessage",
        json.dumps(_constructor(*chat[:3], "Generation", text=None)): "no Generation",
    }
    with sqlite3.connect(tmp_path / "langchain.db") as connection:
        for n, response in enumerate([*rows, None]):
            connection.execute("INSERT INTO full_llm_cache VALUES (?, 'llm', 0, ?)", (f"{n}", response))
        connection.execute("INSERT INTO full_llm_cache VALUES (CAST(x'ff' AS TEXT), 'llm', 0, 'x')")
    connection.close()
    report = migrate(tmp_path, new, batch_size=3)
    assert report.copied == 1
    expected = {"no text": 1}
    for reason in [*rows.values(), "corrupt JSON"]:
        expected[reason] = expected.get(reason, 0) + 1
    assert reasons(report) == expected
    assert new.lookup("good", "llm") == [Generation(text="fine")]
    assert [new.lookup(f"{n}", "llm") for n in range(len(rows) + 1)] == [None] * (len(rows) + 1)


def test_wrong_arguments(new, tmp_path, old):
    with pytest.raises(ConfigError, match="is no file"):
        from_sqlite_cache(tmp_path / "absent.db", new)
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(ConfigError, match="give an LLMCache"):
        from_sqlite_cache(tmp_path / "langchain.db", new.cache)
    (tmp_path / "text.db").write_text("no database at all, but some words in a file" * 50)
    with pytest.raises(ConfigError, match="no file of an SQLiteCache"):
        from_sqlite_cache(tmp_path / "text.db", new)
    sqlite3.connect(tmp_path / "other.db").close()
    with pytest.raises(ConfigError, match="no such table"):
        from_sqlite_cache(tmp_path / "other.db", new)
