"""Every kind of event is told by all that tell of events: one that is added cannot be forgotten."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import fields
from decimal import Decimal
from typing import Any, get_args, get_type_hints

import pytest
from telemetry import Setting

import tiercache
from tiercache import Event, MemoryTier, TieredCache
from tiercache.observability.logging import JSONFormatter, log_events

#: A value of each type that a field has, which is found again in what is told.
VALUES: dict[Any, Any] = {str: "some-text", float: 0.125, bool: True, Decimal: Decimal("4.5")}


def kinds(of: type[Event] = Event) -> Iterator[type[Event]]:
    """All kinds of event."""
    for kind in of.__subclasses__():
        yield kind
        yield from kinds(kind)


#: What ``slots=True`` makes a class of is a subclass too, as long as nobody has collected it.
KINDS = [kind for kind in kinds() if getattr(sys.modules[kind.__module__], kind.__name__, None) is kind]


def one_of(kind: type[Event]) -> Event:
    """An event of that kind. The types of its fields are known."""
    hints = get_type_hints(kind, localns={"Decimal": Decimal})
    given: dict[str, Any] = {}
    for field in fields(kind):
        choices = get_args(hints[field.name])
        given[field.name] = choices[0] if choices else VALUES[hints[field.name]]
    return kind(**given)


def test_there_are_events_and_users_can_import_them():
    assert len(KINDS) >= 4
    assert len({kind.kind for kind in KINDS}) == len(KINDS), "each has a word of its own"
    for kind in KINDS:
        assert getattr(tiercache, kind.__name__) is kind
        assert "kind" in vars(kind)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.kind)
def event(request):
    return one_of(request.param)


@pytest.fixture
def cache():
    with TieredCache([MemoryTier()]) as made:
        yield made


def test_each_is_a_line_of_the_structured_log_with_all_its_fields(event, cache, caplog):
    caplog.set_level(logging.DEBUG, "tiercache.events")
    stop = log_events(cache, name="c")
    cache._stack.events.emit(event)
    stop()
    cache._stack.events.emit(event)
    (record,) = caplog.records
    line = json.loads(JSONFormatter().format(record))
    told = {
        name: str(value) if isinstance(value, Decimal) else value for name, value in event.as_dict().items()
    }
    assert line["tiercache"] == {**told, "cache": "c"}
    assert line["message"].startswith(f"{event.kind}: ")


def test_each_is_an_event_of_a_span_with_all_its_fields(event, cache):
    it = Setting({"c": cache})
    with it.tracer.start_as_current_span("request") as request:
        cache._stack.events.emit(event)
    (told,) = request.events
    assert told.name.startswith("tiercache.")
    assert told.attributes["tiercache.cache.name"] == "c"
    kept = set(map(str, told.attributes.values()))
    for field in fields(event):
        value = getattr(event, field.name)
        # How long a circuit was open is the length of a span; that a call ran out of time, the error's type.
        if (event.kind, field.name) not in (("breaker_closed", "seconds"), ("tier_failed", "timeout")):
            assert str(value) in kept, field.name


def test_hooks_hear_of_each(event):
    heard: list[Event] = []
    with TieredCache([MemoryTier()], on_event=heard.append) as cache:
        cache._stack.events.emit(event)
    assert heard == [event]
