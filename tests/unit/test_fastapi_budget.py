"""A budget holds for handlers whose responses are kept: at its limit they do not run, and what is kept is
given on."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from fastapi import Request
from fastapi.responses import PlainTextResponse
from fastapi_apps import Served, ask, new_app, told
from ledgers import PRICES, paid_load, totals
from waiting import LIMIT, auntil

from tiercache import Budget, BudgetExceeded, WriteError
from tiercache.integrations.fastapi import cached
from tiercache.testing import FakeClock

COST = Decimal("0.0002")  # of a `paid_load`


def priced(calls):
    """An application that may make so many calls a day, with a handler that makes one."""
    app = new_app(FakeClock(), prices=PRICES, model="m", budget=Budget(calls * COST))

    @app.exception_handler(BudgetExceeded)
    async def refused(request: Request, error: BudgetExceeded) -> PlainTextResponse:
        return PlainTextResponse(f"{error.spent} of {error.limit}", 503)

    @app.get("/answers/{question}")
    @cached(ttl="1h")
    async def answer(question: str) -> str:
        paid_load(question)
        return question

    return app


def test_at_the_limit_no_handler_runs_and_what_is_kept_is_given():
    async def scenario(served: Served) -> None:
        assert told(await served.get("/answers/a")) == "miss"
        assert told(await served.get("/answers/b")) == "miss"
        refused = await served.get("/answers/c")
        assert (refused.status_code, refused.text) == (503, "0.0004 of 0.0004")
        assert told(await served.get("/answers/a")) == "memory"
        assert totals(served.cache)[:3] == (2, 0, 2)
        served.clock.advance(86_400)
        assert (await served.get("/answers/c")).status_code == 200

    ask(priced(2), scenario)


@pytest.mark.parametrize("said", ["no-cache", "max-age=0", "max-age=10"])
def test_at_the_limit_no_client_has_a_kept_response_dropped_for_a_newer_one(said):
    async def scenario(served: Served) -> None:
        await served.get("/answers/a")
        served.clock.advance(20)
        wanted = await served.get("/answers/a", cache_control=said)
        assert (wanted.status_code, told(wanted)) == (200, "memory")
        assert told(await served.get("/answers/a")) == "memory"
        assert totals(served.cache)[0] == 1

    ask(priced(1), scenario)


@pytest.mark.parametrize(("method", "said"), [("GET", "no-store"), ("HEAD", "")])
def test_a_run_whose_response_is_not_kept_is_paid_for_too(method, said):
    app = priced(1)

    @app.api_route("/both", methods=["GET", "HEAD"])
    @cached(ttl="1h")
    async def both() -> str:
        paid_load("both")
        return "both"

    async def scenario(served: Served) -> None:
        first = await served.request(method, "/both", cache_control=said)
        assert (first.status_code, told(first)) == (200, "miss")
        assert totals(served.cache) == (1, 0, 1, 0, COST)
        assert (await served.request(method, "/both", cache_control=said)).status_code == 503
        assert totals(served.cache)[:2] == (1, 0)

    ask(app, scenario)


def test_a_handler_that_fails_is_a_call_that_failed():
    app = priced(5)

    @app.get("/fails")
    @cached(ttl="1h")
    async def fails() -> str:
        paid_load("fails")
        raise RuntimeError

    async def scenario(served: Served) -> None:
        assert (await served.get("/fails", cache_control="no-store")).status_code == 500
        assert (await served.get("/fails")).status_code == 500
        assert totals(served.cache) == (2, 2, 0, 0, 2 * COST)

    ask(app, scenario)


def test_a_run_for_who_waited_for_one_that_failed_in_a_cache_of_its_own_is_paid_for():
    app = priced(2)
    runs = []
    both = asyncio.Event()

    @app.get("/ill")
    @cached(ttl="1h")
    async def ill() -> str:
        runs.append("ill")
        await asyncio.wait_for(both.wait(), LIMIT)
        raise WriteError("the handler's own")

    async def scenario(served: Served) -> None:
        asked = [asyncio.ensure_future(served.get("/ill")) for _ in range(2)]
        await auntil(lambda: runs and served.cache.stats().coalesced)
        both.set()
        assert [(await one).status_code for one in asked] == [500, 500]
        assert totals(served.cache)[:2] == (len(runs), len(runs))

    ask(app, scenario)
