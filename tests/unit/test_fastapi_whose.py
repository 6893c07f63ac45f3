"""`cached`: whose a response is, and what is not kept at all."""

# Annotations are no text here: their dependencies are names of each test's own.

from typing import Annotated, Any

import pytest
from fastapi import Depends, Header, HTTPException, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.security import APIKeyHeader, HTTPBearer
from fastapi_apps import Served, ask, new_app, told

from tiercache.integrations.fastapi import cached
from tiercache.integrations.fastapi._headers import directives
from tiercache.testing import FakeClock

# -- whose it is --------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", [{"authorization": "Bearer a"}, {"cookie": "session=a"}])
def test_who_sends_credentials_is_not_given_anothers_response(app, count, header):
    @app.get("/mine")
    @cached(ttl=60)
    async def mine(request: Request) -> str:
        return f"{request.headers.get('authorization')} {request.headers.get('cookie')} {count()}"

    async def scenario(served: Served) -> None:
        assert (await served.get("/mine")).json() == "None None 1"
        own = await served.get("/mine", **header)
        assert own.json().endswith(" 2")
        assert (told(own), own.headers.get("etag")) == (None, None)
        assert own.headers["vary"] == "authorization, cookie"  # and so no cache takes the other one for it
        assert (await served.get("/mine", **header)).json().endswith(" 3")
        again = await served.get("/mine")
        assert (again.json(), told(again)) == ("None None 1", "memory")
        assert again.headers["vary"] == "authorization, cookie"

    ask(app, scenario)


@pytest.mark.parametrize("scheme", [APIKeyHeader(name="X-Key"), HTTPBearer(auto_error=False)])
def test_a_scheme_of_security_is_as_good_as_credentials(app, count, scheme):
    async def user(key: Annotated[Any, Depends(scheme)]) -> str:
        return str(key)

    @app.get("/mine")
    @cached(ttl=60)
    async def mine(user: Annotated[str, Depends(user)]) -> int:
        return count()

    async def scenario(served: Served) -> None:
        found = [await served.get("/mine", x_key=key) for key in ("a", "b", "a")]
        assert [response.text for response in found] == ["1", "2", "3"]
        assert {told(response) for response in found} == {None}

    ask(app, scenario)


def current_user(
    key: Annotated[str | None, Depends(APIKeyHeader(name="X-Key", auto_error=False))],
) -> str | None:
    if key == "wrong":
        raise HTTPException(401, "who are you?")
    return key


def test_an_identity_has_responses_of_its_own(app, count):
    @app.get("/mine")
    @cached(ttl=60, identity=current_user)
    async def mine(user: Annotated[str | None, Depends(current_user)]) -> str:
        return f"{user} {count()}"

    async def scenario(served: Served) -> None:
        one = await served.get("/mine", x_key="a")
        assert (one.json(), told(one)) == ("a 1", "miss")
        assert (await served.get("/mine", x_key="b")).json() == "b 2"
        again = await served.get("/mine", x_key="a", cookie="other=1")
        assert (again.json(), told(again)) == ("a 1", "memory")
        assert again.headers["cache-control"] == "private, max-age=60"
        nobody = await served.get("/mine")
        assert (nobody.json(), told(nobody)) == ("None 3", None)
        # Who may not is told so, whatever is kept.
        refused = await served.get("/mine", x_key="wrong")
        assert (refused.status_code, told(refused)) == (401, None)

    ask(app, scenario)


@pytest.mark.parametrize("said", ["max-age=9", "public, max-age=9", "private, max-age=9"])
def test_what_a_handler_says_of_lives_tells_shared_caches_nothing_of_an_identity(app, said):
    def caller(x_caller: Annotated[str, Header()]) -> str:
        return x_caller

    @app.get("/mine")
    @cached(ttl=60, identity=caller)
    async def mine() -> Response:
        return Response("mine", headers={"cache-control": said})

    async def scenario(served: Served) -> None:
        for source in "miss", "memory":
            found = await served.get("/mine", x_caller="ada")
            assert told(found) == source
            assert directives([found.headers["cache-control"]]).keys() >= {"private", "max-age"}
            known = await served.get("/mine", x_caller="ada", if_none_match=found.headers["etag"])
            assert (known.status_code, known.headers["cache-control"]) == (
                304,
                found.headers["cache-control"],
            )

    ask(app, scenario)


def test_what_is_public_is_the_same_for_everybody(app, count):
    @app.get("/news")
    @cached(ttl=60, public=True)
    async def news() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/news")).text == "1"
        found = await served.get("/news", cookie="_ga=1", authorization="Bearer a")
        assert (found.text, told(found)) == ("1", "memory")
        assert "vary" not in found.headers

    ask(app, scenario)


def test_an_identity_that_is_no_text_is_a_mistake(app):
    @app.get("/mine")
    @cached(ttl=60, identity=lambda: 7)
    async def mine() -> int:
        return 1

    async def scenario(served: Served) -> None:
        assert (await served.get("/mine")).status_code == 500

    ask(app, scenario)


# -- what is not kept ---------------------------------------------------------------------------------


def test_responses_that_are_not_to_be_kept(app, count, tmp_path):
    file = tmp_path / "file"
    file.write_text("text")

    def response(name: str) -> Response:
        number = str(count())
        return {
            "cookie": lambda: Response(number, headers={"set-cookie": f"session={number}"}),
            "no-store": lambda: Response(number, headers={"cache-control": "no-store"}),
            "private": lambda: Response(number, headers={"cache-control": "private, max-age=9"}),
            "vary": lambda: Response(number, headers={"vary": "X-Other"}),
            "missing": lambda: Response(number, 404),
            "moved": lambda: Response(number, 307, {"location": "/"}),
            "broken": lambda: Response(number, 500),
            "stream": lambda: StreamingResponse(iter([number, "!"])),
            "file": lambda: FileResponse(file, headers={"x-number": number}),
        }[name]()

    @app.get("/{name}")
    @cached(ttl=60)
    async def not_kept(name: str) -> Response:
        return response(name)

    async def scenario(served: Served) -> None:
        expected = 1
        for name in "cookie", "no-store", "private", "vary", "missing", "moved", "broken", "stream", "file":
            for _ in range(2):
                found = await served.get(f"/{name}")
                assert found.headers.get("x-number", found.text).rstrip("!") == str(expected), name
                assert told(found) == "miss"
                expected += 1
        assert (await served.get("/stream")).text.endswith("!")
        assert not list(served.cache.keys())

    ask(app, scenario)


def test_what_a_handler_sets_in_its_response_counts_as_well(app, count):
    @app.get("/cookie")
    @cached(ttl=60)
    async def cookie(response: Response) -> int:
        response.set_cookie("session", "secret")
        return count()

    async def scenario(served: Served) -> None:
        for run in "1", "2":
            found = await served.get("/cookie")
            assert (found.text, len(found.headers.get_list("set-cookie"))) == (run, 1)

    ask(app, scenario)


@pytest.mark.parametrize(
    "header",
    [("set-cookie", "a=b"), ("cache-control", "no-store"), ("vary", "x-mood"), ("etag", '"of-it"')],
)
def test_what_a_dependency_says_of_this_response_does_not_go_with_a_kept_one(app, count, header):
    def says(request: Request, response: Response) -> None:
        if "x-mood" in request.headers:
            response.headers[header[0]] = header[1]

    @app.get("/kept", dependencies=[Depends(says)])
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept")).text == "1"
        said = await served.get("/kept", x_mood="good")
        assert (said.text, told(said)) == ("2", None)
        assert header[1] in said.headers[header[0]]
        assert (await served.get("/kept")).text == "1"

    ask(app, scenario)


def test_a_status_that_a_dependency_says_is_the_requests(app, count):
    def says(request: Request, response: Response) -> None:
        if "x-mood" in request.headers:
            response.status_code = 203

    @app.get("/kept", dependencies=[Depends(says)])
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        for mood, status, run in ("", 200, "1"), ("good", 203, "2"), ("", 200, "1"):
            found = await served.get("/kept", **({"x_mood": mood} if mood else {}))
            assert (found.status_code, found.text) == (status, run)

    ask(app, scenario)


def test_a_request_with_a_body_has_a_response_of_its_own(app, count):
    @app.get("/search")
    @cached(ttl=60, public=True)
    async def search(request: Request) -> str:
        return f"{(await request.body()).decode()} {count()}"

    async def chunks() -> Any:
        yield b"in chunks"

    async def scenario(served: Served) -> None:
        assert (await served.get("/search")).json() == " 1"
        for body, expected in (b"tea", "tea 2"), (b"milk", "milk 3"), (chunks(), "in chunks 4"):
            found = await served.client.request("GET", "/search", content=body)
            assert (found.json(), told(found)) == (expected, None)
        assert (await served.get("/search", content_length="0")).json() == " 1"

    ask(app, scenario)


def test_an_error_is_not_kept_and_reaches_the_client_as_it_is(app):
    errors = iter(
        [HTTPException(404, "none", {"x-why": "gone"}), RuntimeError("lost"), HTTPException(503), None]
    )

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> str:
        error = next(errors)
        if error is not None:
            raise error
        return "well"

    async def scenario(served: Served) -> None:
        missing = await served.get("/kept")
        assert (missing.status_code, missing.json(), missing.headers["x-why"]) == (
            404,
            {"detail": "none"},
            "gone",
        )
        assert (await served.get("/kept")).status_code == 500
        assert (await served.get("/kept")).status_code == 503
        assert (await served.get("/kept")).json() == "well"
        assert told(await served.get("/kept")) == "memory"

    ask(app, scenario)


def test_an_old_response_stands_in_for_a_failure_and_not_for_one_that_is_gone():
    errors = iter([None, HTTPException(502), HTTPException(404)])
    app = new_app(FakeClock(), stale_if_error="1h", stale_for="1h", refresh_ahead=1.0, load_deadline=1.0)

    @app.get("/kept")
    @cached(ttl=60)
    async def kept() -> str:
        error = next(errors)
        if error is not None:
            raise error
        return "well"

    async def scenario(served: Served) -> None:
        await served.get("/kept")
        served.clock.advance(100)
        old = await served.get("/kept")
        assert (old.json(), told(old), old.headers["cache-control"]) == (
            "well",
            "memory",
            "public, max-age=0",
        )
        served.clock.advance(100)
        assert (await served.get("/kept")).status_code == 404

    ask(app, scenario)


def test_a_response_that_does_not_fit_its_model_is_an_error_as_ever(app):
    @app.get("/kept", response_model=list[int])
    @cached(ttl=60)
    async def kept() -> Any:
        return {"other": 1}

    async def scenario(served: Served) -> None:
        for _ in range(2):
            assert (await served.get("/kept")).status_code == 500

    ask(app, scenario)


def test_other_methods_have_nothing_to_do_with_it(app, count):
    @app.api_route("/kept", methods=["GET", "POST", "PUT"])
    @cached(ttl=60)
    async def kept() -> int:
        return count()

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept")).text == "1"
        for method, run in ("POST", "2"), ("PUT", "3"), ("POST", "4"):
            found = await served.request(method, "/kept")
            assert (found.text, told(found), found.headers.get("etag")) == (run, None, None)
        assert (await served.get("/kept")).text == "1"

    ask(app, scenario)
