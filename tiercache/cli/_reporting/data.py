"""A report as JSON has it, with the names of statistics and of the ledger: `docs/reference/cli/report.md`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tiercache.cli._reporting.record import Books, Day, Report, Spent, Statistics, TierPart
from tiercache.cli.stats import with_ratios

__all__ = ["as_data"]


def as_data(report: Report) -> dict[str, Any]:
    """``report`` as nested dicts, lists, text and numbers; money is text, which is exact."""
    return {
        "cache": report.cache,
        "made_at": report.made_at,
        "since": report.since or None,
        "tiers": [_tier(tier) for tier in report.tiers],
        "statistics": None if report.statistics is None else _statistics(report.statistics),
        "ledger": None if report.books is None else _books(report.books),
        "budget": None if report.budget is None else _budget(report.budget),
        "popular": None if report.popular is None else [asdict(one) for one in report.popular],
        "problems": list(report.problems),
        "hints": list(report.hints),
    }


def _tier(tier: TierPart) -> dict[str, Any]:
    return {
        "name": tier.name,
        "kind": tier.kind,
        "state": tier.state,
        "why": tier.why or None,
        "entries": tier.entries,
        "bytes": tier.bytes,
        "whole": tier.whole,
        "hit_ratio": tier.hit_ratio,
        "read_seconds_per_key": tier.read_seconds,
        "write_seconds_per_key": tier.write_seconds,
        "read_latency": asdict(tier.read_latency),
        "write_latency": asdict(tier.write_latency),
    }


def _statistics(found: Statistics) -> dict[str, Any]:
    return {
        "processes": found.processes,
        "running": found.running,
        "started": found.started,
        "updated": found.updated,
        "sum": with_ratios(found.total),
        "saved": dict(found.saved),
    }


def _books(books: Books) -> dict[str, Any]:
    return {
        "currency": books.currency,
        "days": [_day(day) for day in books.days],
        "tiers": [row.as_dict() for row in books.tiers],
        "models": [row.as_dict() for row in books.models],
        "namespaces": [row.as_dict() for row in books.namespaces],
        "total": {**books.total.as_dict(), "hit_ratio": books.hit_ratio},
    }


def _day(day: Day) -> dict[str, Any]:
    return {
        **day.row.as_dict(),
        "hit_ratio": day.hit_ratio,
        "served_by": dict(day.served),
        "missed": day.missed,
    }


def _budget(spent: Spent) -> dict[str, Any]:
    return {
        "day": spent.day,
        "per_day": str(spent.per_day),
        "spent": str(spent.spent),
        "share": spent.share,
        "action": spent.action,
        "warn_at": list(spent.warn_at),
        "currency": spent.currency,
    }
