"""`cached`: what clients say and are told; many of them at a time, and a cache that is ill."""

# Annotations are no text here: their dependencies are names of each test's own.

import asyncio
from email.utils import formatdate
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from fastapi_apps import Served, ask, new_app, told
from waiting import GatedLoader, auntil

from tiercache import DiskTier, MemoryTier, TieredCache
from tiercache.codecs import JSONCodec
from tiercache.integrations.fastapi import cached
from tiercache.testing import ChaosTier, DictStore, FakeClock, Raise

# -- what clients say ---------------------------------------------------------------------------------


def test_a_client_that_has_it_is_told_so(app, count):
    @app.get("/kept")
    @cached(ttl=60)
    async def kept(response: Response) -> int:
        response.headers["content-location"] = "/kept/1"
        response.headers["x-mine"] = "1"
        return count()

    async def scenario(served: Served) -> None:
        first = await served.get("/kept")
        tag = first.headers["etag"]
        assert tag.startswith('"')
        for sent in tag, f"W/{tag}", f'"other", {tag}', "*":
            known = await served.get("/kept", if_none_match=sent)
            assert (known.status_code, known.content, told(known)) == (304, b"", "memory")
            for header in "etag", "cache-control", "vary", "content-location":
                assert known.headers[header] == first.headers[header]
            assert not {"content-type", "content-length", "x-mine"} & known.headers.keys()
        for sent in '"other"', tag.strip('"'), "":
            assert (await served.get("/kept", if_none_match=sent)).status_code == 200
        served.clock.advance(60)
        # The run before an answer of 304 is a run all the same.
        anew = await served.get("/kept", if_none_match="*")
        assert (anew.status_code, told(anew)) == (304, "miss")
        assert (await served.get("/kept", if_none_match=tag)).text == "2"

    ask(app, scenario)


def test_only_what_is_well_is_not_sent_again(app):
    @app.get("/missing")
    @cached(ttl=60, statuses={404})
    async def missing() -> Response:
        return Response("none", 404)

    async def scenario(served: Served) -> None:
        for source in "miss", "memory":
            found = await served.get("/missing", if_none_match="*")
            assert (found.status_code, found.text, told(found)) == (404, "none", source)

    ask(app, scenario)


def test_an_end_that_the_handler_says_is_not_put_off(app):
    ends: list[str] = []

    @app.get("/ends")
    @cached(ttl=60)
    async def ends_(number: int) -> Response:
        return Response("ends", headers={"expires": ends[number]})

    async def scenario(served: Served) -> None:
        now = served.clock.time()
        ends.extend(
            [formatdate(now + 9, usegmt=True), formatdate(now + 90, usegmt=True), formatdate(0), "0", "soon"]
        )
        for number, left in enumerate([9, 60, 0, 0, 0]):
            for _ in range(2):
                found = await served.get(f"/ends?number={number}")
                assert found.headers["expires"] == ends[number]
                assert int(found.headers["cache-control"].removeprefix("public, max-age=")) in (
                    left,
                    left - 1,
                )

    ask(app, scenario)


def test_no_cache_makes_a_new_one_for_all(app, count):
    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    @app.get("/settled")
    @cached(ttl=60, reload=False)
    async def settled() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept")).text == "1"
        asked = await served.get("/kept", cache_control="No-Cache")
        assert (asked.text, told(asked)) == ("2", "miss")
        assert (await served.get("/kept")).text == "2"
        assert (await served.get("/kept", pragma="no-cache")).text == "3"
        served.clock.advance(10)
        assert (await served.get("/kept", cache_control="max-age=10")).text == "3"
        assert (await served.get("/kept", cache_control="max-age=9")).text == "4"
        assert (await served.get("/kept", cache_control="max-age=0")).text == "5"
        assert (await served.get("/kept")).text == "5"
        assert (await served.get("/settled")).text == "6"
        assert (await served.get("/settled", cache_control="no-cache")).text == "6"

    ask(app, scenario)


def test_no_store_keeps_nothing(app, count):
    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept", cache_control="no-store")).text == "1"
        assert (await served.get("/kept")).text == "2"
        # What is kept already may be given: RFC 9111, 5.2.1.5.
        found = await served.get("/kept", cache_control="no-store")
        assert (found.text, told(found)) == ("2", "memory")
        assert (await served.get("/kept", cache_control="no-store, no-cache")).text == "3"
        assert (await served.get("/kept")).text == "2"

    ask(app, scenario)


def test_head_is_what_get_would_be_and_never_in_its_place(app, count):
    @app.api_route("/kept", methods=["GET", "HEAD"])
    @cached(ttl=60)
    async def kept(request: Request) -> Response:
        return Response("" if request.method == "HEAD" else f"run {count()}")

    async def scenario(served: Served) -> None:
        assert told(await served.request("HEAD", "/kept")) == "miss"
        got = await served.get("/kept")
        assert (got.text, told(got)) == ("run 1", "miss")
        head = await served.request("HEAD", "/kept")
        assert (head.content, told(head)) == (b"", "memory")
        for name in "etag", "content-length", "cache-control":
            assert head.headers[name] == got.headers[name]
        assert (await served.request("HEAD", "/kept", if_none_match="*")).status_code == 304

    ask(app, scenario)


def test_a_life_for_clients_of_its_own(app, count):
    @app.get("/short")
    @cached(ttl=60, max_age="10s")
    async def short() -> int:
        return count()

    @app.get("/asked")
    @cached(ttl=60, max_age=0)
    async def asked() -> int:
        return count()

    @app.get("/own")
    @cached(ttl=60)
    async def own(response: Response) -> int:
        response.headers["cache-control"] = "public, max-age=20, stale-while-revalidate=5"
        return count()

    async def scenario(served: Served) -> None:
        for url in "/short", "/asked", "/own":
            await served.get(url)
        served.clock.advance(15)
        assert (await served.get("/short")).headers["cache-control"] == "public, max-age=10"
        assert (await served.get("/asked")).headers["cache-control"] == "public, no-cache"
        found = await served.get("/own")
        assert found.headers.get_list("cache-control") == ["public, max-age=20, stale-while-revalidate=5"]
        assert found.headers["age"] == "15"  # 20 seconds are counted from when it was made
        served.clock.advance(40)
        assert (await served.get("/short")).headers["cache-control"] == "public, max-age=5"

    ask(app, scenario)


# -- many at a time, and a cache that is ill -------------------------------------------------------------


def gated_handler(app: FastAPI, result: str) -> tuple[GatedLoader, Any]:
    """``/kept``, and its loader, whose gate it waits at."""
    loader = GatedLoader(result)

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> str:
        return await loader.native("kept")

    return loader, kept


def test_a_herd_runs_the_handler_once(app):
    loader, _kept = gated_handler(app, "made")

    async def scenario(served: Served) -> None:
        herd = [asyncio.ensure_future(served.get("/kept")) for _ in range(20)]
        await auntil(lambda: served.cache.stats().coalesced >= 19)
        loader.go.set()
        found = await asyncio.gather(*herd)
        assert len(loader.calls) == 1
        assert {(response.text, told(response)) for response in found} == {('"made"', "miss")}

    ask(app, scenario)


def test_a_client_that_goes_away_takes_no_other_with_it(app):
    loader, _kept = gated_handler(app, "made")

    async def scenario(served: Served) -> None:
        first = asyncio.ensure_future(served.get("/kept"))
        await auntil(loader.entered.is_set)
        second = asyncio.ensure_future(served.get("/kept"))
        await auntil(lambda: served.cache.stats().coalesced)
        first.cancel()
        loader.go.set()
        assert (await second).json() == "made"
        assert told(await served.get("/kept")) == "memory"

    ask(app, scenario)


def test_a_herd_whose_response_is_not_kept_has_one_each(app, count):
    gate = asyncio.Event()

    @app.get("/stream")
    @cached(ttl=60)
    async def stream() -> Response:
        await gate.wait()
        return StreamingResponse(iter([f"run {count()}"]))

    async def scenario(served: Served) -> None:
        herd = [asyncio.ensure_future(served.get("/stream")) for _ in range(5)]
        await auntil(lambda: served.cache.stats().coalesced >= 4)
        gate.set()
        found = await asyncio.gather(*herd)
        assert sorted(response.text for response in found) == [f"run {number + 1}" for number in range(5)]

    ask(app, scenario)


def test_what_was_changed_while_the_handler_ran_is_not_kept(app):
    loader, kept = gated_handler(app, "before")

    async def scenario(served: Served) -> None:
        first = asyncio.ensure_future(served.get("/kept"))
        await auntil(loader.entered.is_set)
        await kept.cache_clear(served.cache)
        loader.result = "after"
        later = asyncio.ensure_future(served.get("/kept", cache_control="no-cache"))
        await auntil(lambda: len(loader.calls) == 2)
        loader.go.set()
        await asyncio.gather(first, later)
        assert (await served.get("/kept")).json() == "after"
        assert len(loader.calls) == 2

    ask(app, scenario)


def test_clearing_drops_the_responses_of_one_handler(app, count):
    @app.get("/one/{number}")
    @cached(ttl=60)
    async def one(number: int) -> int:
        return count()

    @app.get("/two")
    @cached(ttl=60)
    async def two() -> int:
        return count()

    async def scenario(served: Served) -> None:
        for url in "/one/1", "/one/2", "/two":
            await served.get(url)
        await one.cache_clear(served.cache)
        assert [told(await served.get(url)) for url in ("/one/1", "/one/2", "/two")] == [
            "miss",
            "miss",
            "memory",
        ]

    ask(app, scenario)


def test_a_cache_that_is_ill_never_breaks_a_handler(count):
    tier = ChaosTier(DictStore())
    app = new_app(FakeClock(), lambda: [tier])

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        tier.inject(Raise(ConnectionError("down")))
        for run in range(1, 7):
            found = await served.get("/kept", cache_control="no-cache" if run > 3 else "max-stale")
            assert (found.status_code, found.text, told(found)) == (200, str(run), "miss")
        await served.cache.aclose()
        assert (await served.get("/kept")).text == "7"

    ask(app, scenario)


def test_a_handlers_own_trouble_with_a_cache_is_not_hidden(app, count):
    other = TieredCache([MemoryTier()])
    other.close()

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> str:
        count()
        return str(await other.aget("key"))

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept")).status_code == 500
        assert count() == 2

    ask(app, scenario)


def test_each_tier_is_told_by_its_name(tmp_path, count):
    clock = FakeClock()
    app = new_app(clock, lambda: [MemoryTier(clock=clock), DiskTier(tmp_path / "disk", clock=clock)])

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        sources.append(told(await served.get("/kept")))

    sources: list[str | None] = []
    ask(app, scenario)
    ask(app, scenario)  # the application starts again, with another cache
    assert sources == ["miss", "disk"]


def test_names_that_are_no_words_are_not_shown():
    clock = FakeClock()
    app = new_app(clock, lambda: [MemoryTier(name="redis://user:secret@host", clock=clock)])

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> int:
        return 1

    async def scenario(served: Served) -> None:
        await served.get("/kept")
        assert told(await served.get("/kept")) == "tier"

    ask(app, scenario)


def test_a_memoized_handler_is_a_handler_too(app, count):
    cache = TieredCache([MemoryTier()], codec=JSONCodec())

    @app.get("/memoized/{number}")
    @cache.cached(ttl=60)
    async def memoized(number: int, more: str = "") -> dict[str, Any]:
        return {"number": number, "run": count()}

    async def scenario(served: Served) -> None:
        for _ in range(2):
            assert (await served.get("/memoized/7")).json() == {"number": 7, "run": 1}
        assert (await served.get("/memoized/7?more=1")).json() == {"number": 7, "run": 2}
        assert (await served.get("/memoized/x")).status_code == 422

    ask(app, scenario)
    cache.close()
