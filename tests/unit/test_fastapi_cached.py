"""`cached`: the handler runs once, and its response is what it is without the cache."""

# Annotations are no text here: their dependencies are names of each test's own.

import asyncio
import sys
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import pytest
import pythons
from fastapi import APIRouter, BackgroundTasks, Cookie, Depends, FastAPI, Header, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from fastapi.testclient import TestClient
from fastapi_apps import Served, ask, told
from pydantic import BaseModel, Field

from tiercache import ConfigError, MemoryTier, TieredCache
from tiercache.integrations.fastapi import Cache, cached

# -- a response that is kept ------------------------------------------------------------------------


@pytest.mark.parametrize("native", [True, False])
def test_the_handler_runs_once(app, count, native):
    if native:

        @app.get("/price/{article}")
        @cached(ttl="5m")
        async def price(article: str) -> dict[str, Any]:
            """What it costs."""
            return {"article": article, "run": count()}
    else:

        @app.get("/price/{article}")
        @cached(ttl="5m")
        def price(article: str) -> dict[str, Any]:
            """What it costs."""
            return {"article": article, "run": count()}

    async def scenario(served: Served) -> None:
        first = await served.get("/price/tea")
        again = await served.get("/price/tea")
        assert first.json() == again.json() == {"article": "tea", "run": 1}
        assert (told(first), told(again)) == ("miss", "memory")
        for response in first, again:  # also the first: elsewhere only what comes from the cache has them
            assert response.headers["cache-control"] == "public, max-age=300"
            assert response.headers["etag"] == first.headers["etag"]
            assert response.headers["content-length"] == str(len(response.content))
            assert "age" not in response.headers  # max-age is of the rest
        served.clock.advance(299.5)
        late = await served.get("/price/tea")
        assert (told(late), late.headers["cache-control"]) == ("memory", "public, max-age=0")
        served.clock.advance(0.5)
        assert told(await served.get("/price/tea")) == "miss"
        assert (await served.get("/price/milk")).json() == {"article": "milk", "run": 3}

    ask(app, scenario)
    assert app.openapi()["paths"]["/price/{article}"]["get"]["description"] == "What it costs."
    parameters = app.openapi()["paths"]["/price/{article}"]["get"]["parameters"]
    assert [parameter["name"] for parameter in parameters] == ["article"]


def test_called_by_hand_it_is_the_function(count):
    @cached(ttl=1)
    async def native(number: int) -> int:
        return number + count()

    @cached(ttl=1)
    def blocking(number: int) -> int:
        return number + count()

    assert asyncio.run(native(1)) == 2
    assert asyncio.run(blocking(number=1)) == 3
    assert native.__name__ == "native"


class Stored(BaseModel):
    number: int
    hidden: str = "h"
    note: str | None = None


class Shown(BaseModel):
    number: int = Field(serialization_alias="No")
    note: str | None = None


def test_the_response_is_what_it_is_without_the_cache(app):
    """Model, status, class of response, headers: a hit is the same in all of them."""
    plain, kept = APIRouter(prefix="/plain"), APIRouter(prefix="/kept")
    for router, decorate in (plain, lambda function: function), (kept, cached(ttl=60)):

        @router.get("/model", response_model=Shown, status_code=203, response_model_exclude_none=True)
        @decorate
        async def model(response: Response, *, short: bool = False) -> Stored:
            response.headers["x-mine"] = "yes"
            response.headers.append("x-two", "1")
            response.headers.append("x-two", "2")
            return Stored(number=1)

        @router.get("/set-status")
        @decorate
        async def set_status(response: Response) -> str:
            response.status_code = 201
            return "made"

        @router.get("/page", response_class=HTMLResponse)
        @decorate
        def page() -> str:
            return "<p>ü</p>"

        @router.get("/raw")
        @decorate
        async def raw() -> Response:
            return PlainTextResponse(b"\xff\x00", 202, {"x-raw": "1"})

        @router.get("/empty", status_code=204)
        @decorate
        async def empty() -> None:
            return None

        @router.get("/null")
        @decorate
        async def null() -> None:
            return None

        app.include_router(router)

    async def scenario(served: Served) -> None:
        for name in "model", "set-status", "page", "raw", "empty", "null":
            expected = await served.get(f"/plain/{name}")
            assert expected.status_code < 300
            for source in "miss", "memory":
                found = await served.get(f"/kept/{name}")
                assert found.content == expected.content, name
                assert found.status_code == expected.status_code
                assert told(found) == source
                ours = ("etag", "cache-control", "vary", "x-cache")
                assert sorted(item for item in found.headers.multi_items() if item[0] not in ours) == sorted(
                    expected.headers.multi_items()
                )

    ask(app, scenario)


def test_a_router_that_is_included_brings_its_dependencies_and_responses(app, count):
    inner = APIRouter()

    @inner.get("/kept")
    @cached(ttl=60)
    async def kept() -> str:
        return f"run {count()}"

    def speaks(language: Annotated[str, Header(alias="X-Language")] = "") -> None:
        """Its header makes a difference."""

    outer = APIRouter(default_response_class=PlainTextResponse)
    outer.include_router(inner, prefix="/outer", dependencies=[Depends(speaks)])
    app.include_router(outer)

    async def scenario(served: Served) -> None:
        first = await served.get("/outer/kept")
        assert first.text == "run 1"
        assert first.headers["content-type"].startswith("text/plain")
        assert (await served.get("/outer/kept", x_language="de")).text == "run 2"
        assert told(await served.get("/outer/kept", x_language="de")) == "memory"

    ask(app, scenario)


def test_dependencies_are_solved_for_every_request(app, count):
    order: list[str] = []

    async def session(response: Response) -> Any:
        order.append("open")
        response.headers["x-request"] = str(len(order))
        yield order
        order.append("close")

    @app.get("/kept")
    @cached(ttl=60)
    async def kept(session: Annotated[list[str], Depends(session)]) -> int:
        assert session[-1] == "open"
        return count()

    async def scenario(served: Served) -> None:
        first, again = await served.get("/kept"), await served.get("/kept")
        assert (first.text, again.text) == ("1", "1")
        assert order == ["open", "close"] * 2
        assert (first.headers["x-request"], again.headers.get_list("x-request")) == ("1", ["3"])
        known = await served.get("/kept", if_none_match="*")
        assert (known.status_code, known.headers["x-request"]) == (304, "5")

    ask(app, scenario)


def test_background_tasks_belong_to_the_run(app, count):
    done: list[int] = []

    @app.get("/kept")
    @cached(ttl=60)
    async def kept(tasks: BackgroundTasks) -> int:
        tasks.add_task(done.append, 1)
        return count()

    async def scenario(served: Served) -> None:
        await served.get("/kept")
        await served.get("/kept")
        assert done == [1]

    ask(app, scenario)


def test_a_handler_may_have_the_request_and_more_of_any_name(app):
    @app.get("/kept/{key}")
    @cached(ttl=60)
    async def kept(request: Request, key: str, cache: Cache, response: Response) -> list[str]:
        response.headers["x-view"] = "set"
        return [request.url.path, key, type(cache).__name__]

    async def scenario(served: Served) -> None:
        for _ in range(2):
            found = await served.get("/kept/identity")
            assert found.json() == ["/kept/identity", "identity", "TieredCache"]
            assert found.headers.get_list("x-view") == ["set"]

    ask(app, scenario)


# -- the key ------------------------------------------------------------------------------------------


def test_what_differs_in_anything_has_a_response_of_its_own(app, count):
    @app.get("/a/{part}")
    @app.get("/b/{part:path}")
    @cached(ttl=60, vary=["Accept-Language"])
    async def kept(part: str, q: Annotated[list[str] | None, Header()] = None) -> int:
        return count()

    async def scenario(served: Served) -> None:
        urls = ["/a/1", "/a/01", "/b/1", "/b/1/", "/a/1?x=1", "/a/1?x=", "/a/1?x=1&x=2", "/a/1?x=2&x=1"]
        urls += ["/a/1?x=1%26x=2", "/a/1?x=1&y=2", "/a/1?x%3D1=", "http://other/a/1", "https://shop/a/1"]
        runs = [(await served.get(url)).text for url in urls]
        assert runs == [str(number + 1) for number in range(len(urls))]
        assert [(await served.get(url)).text for url in urls] == runs
        assert (await served.get("/a/1?y=2&x=1")).text == (await served.get("/a/1?x=1&y=2")).text
        assert (await served.get("/a/1", accept_language="de")).text == str(len(urls) + 1)
        assert (await served.get("/a/1", accept_language="de", user_agent="other")).text == str(len(urls) + 1)
        assert (await served.get("/a/1", q="declared")).text == str(len(urls) + 2)
        found = await served.get("/a/1")
        assert found.headers["vary"] == "accept-language, authorization, cookie, q"

    ask(app, scenario)


def test_a_key_of_ones_own_is_a_dependency(app, count):
    def category(kind: str = "all") -> str:
        return kind.lower()

    @app.get("/kept")
    @app.get("/other")
    @cached(ttl=60, key=category)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept?kind=TEA&utm=1")).text == "1"
        assert (await served.get("/kept?utm=2&kind=tea")).text == "1"
        assert (await served.get("/kept")).text == "2"
        assert (await served.get("/other?kind=tea")).text == "3"

    ask(app, scenario)


def test_what_a_proxy_puts_before_the_path_makes_a_difference(app, count):
    @app.get("/kept")
    @cached(ttl=60)
    async def kept(request: Request) -> str:
        return f"{request.url_for('kept').path} {count()}"

    async def scenario(served: Served) -> None:
        async def below(name: str) -> str:
            transport = httpx.ASGITransport(app, root_path=name)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
                found: str = (await client.get("/kept")).json()
                return found

        assert [await below(name) for name in ("/one", "", "/one")] == [
            "/one/kept 1",
            "/kept 2",
            "/one/kept 1",
        ]

    ask(app, scenario)


def test_mounted_applications_are_apart_and_have_the_cache_of_the_outermost(app, count):
    def inner() -> FastAPI:
        mounted = FastAPI()

        @mounted.get("/kept")
        @cached(ttl=60, name="kept")
        async def kept() -> int:
            return count()

        return mounted

    app.mount("/one", inner())
    app.mount("/two", inner())

    async def scenario(served: Served) -> None:
        assert [(await served.get(f"/{name}/kept")).text for name in ("one", "two", "one")] == ["1", "2", "1"]

    ask(app, scenario)


@pytest.mark.parametrize("title", ["Shop", "Blog"])
def test_applications_of_other_titles_are_apart_and_workers_of_one_share(count, title):
    def worker(title: str, run: Callable[[], int]) -> FastAPI:
        app = FastAPI(title=title)

        @app.get("/kept")
        @cached(ttl=60)
        async def kept() -> int:
            return run()

        return app

    with TieredCache([MemoryTier()]) as cache:
        said = []
        for app in worker("Shop", count), worker(title, count):
            app.state.tiercache = cache
            with TestClient(app) as client:  # of one host, as behind a proxy that takes the prefixes away
                said += [client.get("/kept").text for _ in range(2)]
    assert said == (["1", "1", "1", "1"] if title == "Shop" else ["1", "1", "2", "2"])


SCRIPT = """
import sys
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tiercache import DiskTier, TieredCache
from tiercache.integrations.fastapi import cached, lifespan

app = FastAPI(lifespan=lifespan(lambda: TieredCache([DiskTier(sys.argv[1])])))

@app.get("/answer")
@cached(ttl=60)
def answer() -> int:
    return ANSWER

with TestClient(app) as client:
    print(client.get("/answer").text)
"""


def test_scripts_are_told_apart(tmp_path):
    said = []
    for name, answer in (("one", 1), ("two", 2), ("one", 3)):
        script = tmp_path / name / "main.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(SCRIPT.replace("ANSWER", str(answer)))
        command = [sys.executable, str(script), str(tmp_path / "cache")]
        said.append(pythons.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert said == ["1\n", "2\n", "1\n"]


# -- arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"ttl": 0}, "ttl"),
        ({"ttl": "soon"}, "ttl"),
        ({"ttl": 1, "max_age": -1}, "max_age"),
        ({"ttl": 1, "vary": "accept"}, r"\['accept'\]"),
        ({"ttl": 1, "vary": ["*"]}, "vary"),
        ({"ttl": 1, "identity": "user"}, "identity"),
        ({"ttl": 1, "key": "key"}, "key"),
        ({"ttl": 1, "public": True, "identity": str}, "public"),
    ],
)
def test_a_wrong_argument_is_told_at_once(options, said):
    with pytest.raises(ConfigError, match=said):
        cached(**options)


def test_only_functions_are_decorated():
    with pytest.raises(TypeError, match="APIRouter"):
        cached(ttl=1)(APIRouter())


def test_what_streams_cannot_be_kept():
    with pytest.raises(TypeError, match="generator"):

        @cached(ttl=1)
        async def stream() -> Any:
            yield "a"


def test_a_cookie_that_is_declared_is_a_cookie(app, count):
    @app.get("/mine")
    @cached(ttl=60)
    async def mine(session: Annotated[str, Cookie()] = "") -> str:
        return f"{session} {count()}"

    async def scenario(served: Served) -> None:
        assert (await served.get("/mine", cookie="session=a")).json() == "a 1"
        assert (await served.get("/mine", cookie="session=b")).json() == "b 2"

    ask(app, scenario)
