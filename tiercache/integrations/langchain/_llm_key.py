"""The key of one model call: a digest of what the model would be sent, and marks of the parts it was made of.

LangChain gives a cache two strings. ``prompt`` is a text, or for chat models the JSON of its messages;
``llm_string`` is the text of every parameter. Of each *message object's own* fields those are left out of
the key that say how an earlier answer came about, and not what was said (`UNSENT`); with them in it the
second turn of a conversation would not replay, for LangChain itself writes a cost into the answers that it
takes from a cache. Left out as well are a tool message's ``artifact``, which is for the program alone, and
the random ids that LangChain makes up for blocks of content. Whatever else lies deeper, such as a tool's
argument called ``id``, stays in.

Two prompts never share a key: only JSON that is exactly what ``json.dumps`` would write is taken for
messages, all else is used as it is, and every field is hashed with its length before it. (The one exception
is unknowable here: a text prompt for a plain LLM that is, letter for letter, the JSON of messages.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from operator import itemgetter
from typing import Any

from tiercache.errors import CodecError
from tiercache.integrations.langchain._llm_classes import ADDRESS, schemas
from tiercache.tokens import texts_in

__all__ = ["UNSENT", "CallKey", "MessageParts", "Parts"]

#: Fields of a message that no provider is sent: counts and costs, ids, what a provider said of its answer.
UNSENT = frozenset({"id", "response_metadata", "usage_metadata"})

#: Of longer conversations the rest is kept as one mark: a history is stored again with each of its turns.
_MOST_MESSAGES = 200
#: Characters up to which a parameter's value is kept as it is.
_READABLE = 60
_SECRET = re.compile(
    r"(^|_)(api_?key|key|token|secret|passw(or)?d|credentials?|auth(orization)?|headers?)$", re.IGNORECASE
)
_RANDOM_ID = re.compile(r"lc_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_UNSERIALIZED = '"type": "not_implemented"'
_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|[\[({]|[\])}]|,", re.DOTALL)


@dataclass(frozen=True, slots=True)
class MessageParts:
    """One message: its class (or ``text``), and a mark for each field that is in the key."""

    role: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Parts:
    """What a key was made of, without the words: ``#digest/characters`` of each field of each message, and
    of each parameter, unless it is short and harmless: then it stands as it is."""

    messages: tuple[MessageParts, ...]
    parameters: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """For the store."""
        return {
            "messages": [[message.role, dict(message.fields)] for message in self.messages],
            "parameters": dict(self.parameters),
        }

    @classmethod
    def from_json(cls, data: Any) -> Parts:
        """Out of the store. Raises `CodecError` for what `as_json` did not make."""
        try:
            messages = tuple(MessageParts(role, _strings(fields)) for role, fields in data["messages"])
            return cls(messages, _strings(data["parameters"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CodecError("these are not the parts of a key") from error


class CallKey:
    """The key of the call that LangChain describes by ``prompt`` and ``llm_string``.

    ``key``
        two digests of 40 digits, of the prompt and of the parameters, so that a listing by the first
        one finds the same prompt with other parameters.
    ``unkeyable``
        why such a key must not be used, or ``None``: an object without a text of its own is part of it, or
        a class that cannot be looked up.
    """

    def __init__(self, prompt: str, llm_string: str) -> None:
        self._prompt = prompt
        self._llm_string = llm_string
        self._messages = _messages(prompt)
        self.prompt_digest = self._digest()
        self._schemas, self.unkeyable = schemas(llm_string)
        parameters = blake2b(_encoded(llm_string), digest_size=20)
        if self._schemas:  # in front is the text's digest, of a fixed length: nothing runs into another
            described = json.dumps(sorted(self._schemas.items())).encode()
            parameters = blake2b(parameters.digest() + described, digest_size=20, person=b"schemas")
        self.key = f"{self.prompt_digest}-{parameters.hexdigest()}"
        if ADDRESS.search(llm_string):
            self.unkeyable = "a parameter is an object that has only an address"
        elif _UNSERIALIZED in prompt and _has_address(prompt if self._messages is None else self._messages):
            self.unkeyable = "a message holds an object that has only an address"

    @cached_property
    def parts(self) -> Parts:
        """For `explain`, and stored with the answer."""
        if self._messages is None:
            messages = [MessageParts("text", {"text": _mark(self._prompt)})]
        else:
            messages = [
                MessageParts(_role(path), {name: _mark(value) for name, value in fields})
                for path, fields in self._messages[:_MOST_MESSAGES]
            ]
            if rest := self._messages[_MOST_MESSAGES:]:
                messages.append(MessageParts("later messages", {"all": _mark(rest)}))
        classes = {f"schema of {path}": _mark(schema) for path, schema in self._schemas.items()}
        return Parts(tuple(messages), _parameters(self._llm_string) | classes)

    def texts(self) -> list[str]:
        """What is in the messages, for who counts tokens; their classes and roles are not."""
        if self._messages is None:
            return [self._prompt]
        return [
            text
            for _, fields in self._messages
            for name, value in fields
            if name != "type"
            for text in texts_in(value)
        ]

    def _digest(self) -> str:
        digest = blake2b(digest_size=20)

        def feed(text: str) -> None:
            data = _encoded(text)
            digest.update(b"%d:" % len(data))
            digest.update(data)

        if self._messages is None:
            feed("text")
            feed(self._prompt)
        else:
            feed("messages")
            feed(str(len(self._messages)))
            for path, fields in self._messages:
                feed(path)
                feed(str(len(fields)))
                for name, value in fields:
                    feed(name)
                    feed(json.dumps(value))
        return digest.hexdigest()


def _messages(prompt: str) -> list[tuple[str, list[tuple[str, Any]]]] | None:
    """Each message's class (as the JSON of its path) and sent fields, or ``None`` if the prompt is a text."""
    if not prompt.startswith("["):
        return None
    try:
        data = json.loads(prompt)
        if json.dumps(data) != prompt:
            return None
    except (ValueError, RecursionError):
        return None
    return [_message(item) for item in data]


def _message(item: Any) -> tuple[str, list[tuple[str, Any]]]:
    if (
        isinstance(item, dict)
        and item.keys() == {"lc", "type", "id", "kwargs"}
        and json.dumps([item["lc"], item["type"]]) == '[1, "constructor"]'
        and isinstance(item["id"], list)
        and isinstance(item["kwargs"], dict)
        and {"content", "type"} <= item["kwargs"].keys()
    ):
        unsent = UNSENT | {"artifact"} if item["kwargs"]["type"] == "tool" else UNSENT
        fields = [
            (name, _without_random_ids(value) if name == "content" else value)
            for name, value in item["kwargs"].items()
            if name not in unsent
        ]
        return json.dumps(item["id"]), sorted(fields, key=itemgetter(0))
    return "", [("all", item)]  # not what LangChain makes today; then all of it counts


def _without_random_ids(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [
        {name: value for name, value in block.items() if name != "id"} if _is_random(block) else block
        for block in content
    ]


def _is_random(block: Any) -> bool:
    """Whether the block's id means nothing. That of a call of a tool is what the tool's answer refers to."""
    if not isinstance(block, dict) or "tool_call" in str(block.get("type")):
        return False
    return isinstance(block.get("id"), str) and _RANDOM_ID.fullmatch(block["id"]) is not None


def _has_address(prompt: Any) -> bool:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt)
    return _UNSERIALIZED in text and bool(ADDRESS.search(text) or '"repr": null' in text)


def _role(path: str) -> str:
    return str(json.loads(path)[-1]) if len(path) > 2 else "value"


def _parameters(llm_string: str) -> dict[str, str]:
    """Names and values out of ``llm_string``, as far as it can be read; else it is one parameter."""
    found: dict[str, str] = {}
    called = llm_string
    if llm_string.startswith("{"):  # a model that LangChain can serialise: its JSON, and the call's own
        try:
            model, end = json.JSONDecoder().raw_decode(llm_string)
            own = {name: json.dumps(value) for name, value in model.get("kwargs", {}).items()}
            kind = ".".join(map(str, model["id"]))
        except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return {"llm_string": _mark(llm_string)}
        found["class"] = _value("class", kind)
        found |= {name: _value(name, text) for name, text in own.items()}
        called = llm_string[end:].removeprefix("---")
    pairs = _pairs(called)
    if pairs is None:
        return {**found, "llm_string": _mark(called)}
    for name, text in pairs:
        found[f"{name} (of the call)" if name in found else name] = _value(name, text)
    return found


def _pairs(text: str) -> list[tuple[str, str]] | None:
    """The items of ``str([(name, value), …])``, or ``None`` if a value's text cannot be told apart."""
    if not (text.startswith("[") and text.endswith("]")):
        return None
    pairs: list[tuple[str, str]] = []
    depth, start, comma = 0, 0, 0
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if sign in "[({":
            depth += 1
            if depth == 2:
                start, comma = token.end(), 0
        elif sign in "])}":
            if depth == 2:
                name, value = text[start:comma].strip(), text[comma + 1 : token.start()].strip()
                if len(name) < 2 or name[0] not in "'\"":
                    return None
                pairs.append((name[1:-1], value))
            depth -= 1
        elif sign == "," and depth == 2 and not comma:
            comma = token.start()
    return pairs if depth == 0 and (pairs or text == "[]") else None


def _value(name: str, text: str) -> str:
    # A dict may hold anything, a password too; and a value must not look like a mark.
    if len(text) <= _READABLE and not _SECRET.search(name) and "{" not in text and not text.startswith("#"):
        return text
    return _mark(text)


def _mark(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    # A text and data that reads like it have different marks, as they have different keys.
    digest = blake2b(_encoded(text), digest_size=6, person=b"text" if text is value else b"data")
    return f"#{digest.hexdigest()}/{len(text)}"


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _strings(data: Any) -> dict[str, str]:
    if not isinstance(data, dict) or not all(
        isinstance(key, str) and isinstance(value, str) for key, value in data.items()
    ):
        raise TypeError("not a dict of strings")
    return data
