"""Structured logs: a formatter that writes lines of JSON, and events as records.

What the package's logger ``tiercache`` says of tiers has the event's fields beside its text, as
``record.tiercache``: `JSONFormatter` writes them, and so does any other formatter of JSON that knows of extra
fields. That log says at most one failure of a tier a minute; `log_events` has all of them. Nothing in
it holds a key or a value.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tiercache.errors import ConfigError
from tiercache.events import Event
from tiercache.observability._sources import stack_of

__all__ = ["JSONFormatter", "log_events"]


class JSONFormatter(logging.Formatter):
    """Writes each record as one line of JSON: ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``,
    ``tiercache`` (the fields of an event) and ``exception`` where there are any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        when = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, Any] = {
            "time": when.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "tiercache", None)
        if isinstance(fields, dict):
            line["tiercache"] = fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_events(
    cache: object,
    *,
    name: str | None = None,
    logger: logging.Logger | str = "tiercache.events",
    level: int = logging.DEBUG,
) -> Callable[[], None]:
    """Log every event of the tiers of ``cache``, which may be a `TieredCache` or what stands on one, to
    ``logger``; until the function that comes back is called. ``name`` is the field ``cache`` of its records.

    The records are of ``level``: unless told otherwise below what is usually shown, for the package's own log
    tells of the same events, but for most failures. Raises `ConfigError` for what is no cache.
    """
    if isinstance(level, bool) or not isinstance(level, int):
        raise ConfigError(f"level: {level!r} is none; it is a number, as logging.INFO is")
    to = logging.getLogger(logger) if isinstance(logger, str) else logger
    events = stack_of(cache).events
    hook = partial(_log, to, level, {} if name is None else {"cache": name})
    events.add(hook)
    return partial(events.remove, hook)


def _log(logger: logging.Logger, level: int, more: dict[str, Any], event: Event) -> None:
    if logger.isEnabledFor(level):
        fields = event.as_dict()
        text = " ".join(f"{name}={value}" for name, value in fields.items() if name != "event")
        logger.log(level, "%s: %s", fields["event"], text, extra={"tiercache": {**fields, **more}})
