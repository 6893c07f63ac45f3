"""Structured logs: fields beside the text, as JSON, and each event if somebody wants all."""

from __future__ import annotations

import io
import json
import logging
from datetime import datetime

import pytest
import structlog

from tiercache import ConfigError, MemoryTier, TieredCache, guarded
from tiercache.observability.logging import JSONFormatter, log_events
from tiercache.testing import ChaosTier, DictTier, FakeClock, Raise


class Setting:
    """A cache over an ill tier, and what is written of it."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.clock = FakeClock()
        self.ill = ChaosTier(DictTier("ill"))
        self.cache: TieredCache[bytes] = TieredCache(
            [MemoryTier(clock=self.clock), guarded(self.ill, breaker_failures=3)], clock=self.clock
        )
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)

    def fall_and_rise(self) -> None:
        self.ill.inject(Raise(OSError("the-value")))
        for _ in range(3):
            self.cache.get("the-key")
        self.ill.heal()
        self.clock.advance(60)
        self.cache.get("the-key")

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def it():
    setting = Setting(JSONFormatter())
    logger = logging.getLogger("tiercache")
    level = logger.level
    logger.addHandler(setting.handler)
    logger.setLevel(logging.INFO)
    yield setting
    logger.removeHandler(setting.handler)
    logger.setLevel(level)
    logging.getLogger("tiercache.events").setLevel(logging.NOTSET)
    setting.cache.close()


def test_what_is_said_of_tiers_has_its_fields_beside_it(it):
    it.fall_and_rise()
    failed, opened, closed = it.lines
    assert failed["message"] == "tier 'ill' failed to read (OSError)"
    assert failed["tiercache"] == {
        "event": "tier_failed", "tier": "ill", "action": "read", "error": "OSError", "timeout": False,
    }  # fmt: skip
    pause = opened["tiercache"].pop("pause")
    assert 0.75 <= pause <= 1
    assert opened["tiercache"] == {"event": "breaker_opened", "tier": "ill", "verbs": "all"}
    assert closed["tiercache"] == {"event": "breaker_closed", "tier": "ill", "verbs": "all", "seconds": 60.0}
    assert [line["level"] for line in it.lines] == ["WARNING", "WARNING", "INFO"]
    assert {line["logger"] for line in it.lines} == {"tiercache"}
    assert all(line["time"].endswith("Z") and datetime.fromisoformat(line["time"]) for line in it.lines)
    assert "the-" not in it.stream.getvalue()


def test_every_event_is_there_for_who_wants_all(it):
    logger = logging.getLogger("tiercache.events")
    stop = log_events(it.cache.view("v"), name="c", level=logging.INFO)
    it.fall_and_rise()
    lines = [line for line in it.lines if line["logger"] == logger.name]
    assert [line["tiercache"]["event"] for line in lines] == [
        "tier_failed", "tier_failed", "tier_failed", "breaker_opened", "breaker_closed",
    ]  # fmt: skip
    assert {line["tiercache"]["cache"] for line in lines} == {"c"}
    assert lines[0]["message"] == "tier_failed: tier=ill action=read error=OSError timeout=False"
    assert "the-" not in it.stream.getvalue()
    stop()
    stop()
    it.fall_and_rise()
    assert sum(line["logger"] == logger.name for line in it.lines) == len(lines)


def test_events_are_not_shown_twice_unless_they_are_asked_for(it):
    log_events(it.cache)
    it.fall_and_rise()
    assert {line["logger"] for line in it.lines} == {"tiercache"}


def test_a_logger_of_ones_own(it):
    logger = logging.getLogger("an application")
    records = []
    logger.addFilter(lambda record: records.append(record) or False)
    logger.setLevel(logging.DEBUG)
    log_events(it.cache, logger=logger)
    it.fall_and_rise()
    assert [record.tiercache["event"] for record in records][-1] == "breaker_closed"


def test_structlog_takes_the_fields(it):
    it.handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    it.fall_and_rise()
    failed, *_ = it.lines
    assert failed["event"] == "tier 'ill' failed to read (OSError)"
    assert failed["level"] == "warning"
    assert failed["tiercache"]["event"] == "tier_failed"


def test_a_record_is_one_line_whatever_is_in_it():
    formatter = JSONFormatter()
    error = ValueError("two\nlines")
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "a %s\n\ud800", ("b",), (ValueError, error, None))
    record.tiercache = {"event": object()}
    line = formatter.format(record)
    assert "\n" not in line
    found = json.loads(line.encode())
    assert found["message"] == "a b\n\ud800"
    assert "two\nlines" in found["exception"]
    assert found["tiercache"]["event"].startswith("<object")
    record.tiercache = "something else"
    assert "tiercache" not in json.loads(formatter.format(record))


@pytest.mark.parametrize("wrong", [None, "cache", object()])
def test_what_is_no_cache_is_refused(wrong):
    with pytest.raises(ConfigError, match="no TieredCache"):
        log_events(wrong)


def test_a_level_is_a_number(it):
    with pytest.raises(ConfigError, match="level"):
        log_events(it.cache, level="INFO")
