"""`cached`: what the parameters of a handler and of its dependencies say of what a response depends on."""

# Annotations are no text here: their dependencies are names of each test's own.

import functools
from typing import Annotated, Any, Literal

import pytest
from fastapi import Cookie, Depends, Header, Request, Response, Security
from fastapi.security import APIKeyHeader
from fastapi_apps import Served, ask, told
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from tiercache.integrations.fastapi import cached


class Plain(BaseModel):
    x_user: str = ""


class Named(BaseModel):
    user: str = Field("", alias="X-User")


class Generated(BaseModel):
    model_config = ConfigDict(alias_generator=lambda name: name.replace("_", "-"))
    x_user: str = ""


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tagged(Plain):
    kind: Literal["a"] = "a"


OF_HEADERS = [
    Annotated[Plain, Header()],
    Annotated[Named, Header()],
    Annotated[Generated, Header()],
    Annotated[Open, Header()],
    Annotated[Tagged, Header()],
    Annotated[str, Header(alias="X-User")],
    Annotated[str, Header(validation_alias="X-User")],
    Annotated[str, Header(validation_alias=AliasChoices("x-other", "x-user"))],
]


@pytest.mark.parametrize("of", OF_HEADERS, ids=str)
@pytest.mark.parametrize("inside", [False, True], ids=["handler", "dependency"])
def test_a_header_is_found_however_it_is_declared(app, of, inside):
    def told(value: Any) -> str:
        return value if isinstance(value, str) else repr(value.model_dump().get("x_user", value))

    if inside:

        def dependency(declared: of) -> Any:
            return declared

        @app.get("/kept")
        @cached(ttl=60)
        async def kept(declared: Annotated[Any, Depends(dependency)]) -> str:
            return told(declared)

    else:

        @app.get("/kept")
        @cached(ttl=60)
        async def kept(declared: of) -> str:
            return told(declared)

    async def scenario(served: Served) -> None:
        for name in "ann", "bob":
            assert name in (await served.get("/kept", x_user=name)).text

    ask(app, scenario)


def anybody() -> str:
    return "anybody"


def whoever(x_user: Annotated[str, Header()]) -> str:
    return x_user


def nested(name: Annotated[str, Depends(anybody)]) -> str:
    return name


def credentials(key: Annotated[str, Depends(APIKeyHeader(name="X-User"))]) -> str:
    return key


@pytest.mark.parametrize("dependency", [anybody, nested])
@pytest.mark.parametrize(("instead", "source"), [(whoever, "miss"), (credentials, None)])
def test_what_stands_in_for_a_dependency_declares_headers_too(app, dependency, instead, source):
    @app.get("/kept")
    @cached(ttl=60)
    async def kept(name: Annotated[str, Depends(dependency)]) -> str:
        return name

    async def scenario(served: Served) -> None:
        assert (await served.get("/kept", x_user="ann")).json() == "anybody"
        assert (await served.get("/kept", x_user="bob")).headers["x-cache"] == "memory"
        app.dependency_overrides[anybody] = instead
        for name in "ann", "bob":
            found = await served.get("/kept", x_user=name)
            assert (found.json(), found.headers.get("x-cache")) == (name, source)
        app.dependency_overrides.clear()
        assert (await served.get("/kept", x_user="bob")).json() == "anybody"

    ask(app, scenario)


def test_what_stands_in_may_depend_on_what_depends_on_what_it_stands_in_for(app):
    def over(name: Annotated[str, Depends(nested)], x_user: Annotated[str, Header()]) -> str:
        return name + x_user

    @app.get("/kept")
    @cached(ttl=60)
    async def kept(name: Annotated[str, Depends(nested)], user: Annotated[str, Depends(anybody)]) -> str:
        return f"{name} {user}"

    async def scenario(served: Served) -> None:
        app.dependency_overrides.update({nested: lambda: "mine ", anybody: over})
        for name in "ann", "bob":
            found = await served.get("/kept", x_user=name)
            assert (found.json(), told(found)) == (f"mine  mine {name}", "miss")
        assert told(await served.get("/kept", x_user="ann")) == "memory"

    ask(app, scenario)


class Theme(BaseModel):
    theme: str = ""


def who(x_key: Annotated[str, Header()]) -> str:
    return x_key


@pytest.mark.parametrize("options", [{"public": True}, {"identity": who}], ids=["public", "identity"])
def test_a_cookie_that_is_declared_makes_a_difference(app, options):
    @app.get("/one")
    @cached(ttl=60, **options)
    async def one(theme: Annotated[str, Cookie()]) -> str:
        return theme

    @app.get("/model")
    @cached(ttl=60, **options)
    async def model(cookies: Annotated[Theme, Cookie()]) -> str:
        return cookies.theme

    async def scenario(served: Served) -> None:
        for url in "/one", "/model":
            for theme in "dark", "light", "dark":
                found = await served.get(url, cookie=f"theme={theme}", x_key="ann")
                assert found.json() == theme
                assert "cookie" in found.headers["vary"]
            assert found.headers["x-cache"] == "memory"

    ask(app, scenario)


def test_a_response_that_varies_by_a_cookie_is_not_kept_for_the_user(app):
    @app.get("/kept")
    @cached(ttl=60, identity=who)
    async def kept(request: Request) -> Response:
        return Response(request.cookies["theme"], headers={"vary": "Cookie"})

    async def scenario(served: Served) -> None:
        for theme in "dark", "light":
            found = await served.get("/kept", cookie=f"theme={theme}", x_key="ann")
            assert (found.text, found.headers["x-cache"]) == (theme, "miss")

    ask(app, scenario)


def by_hand(request: Request) -> str:
    return request.headers["x-key"]


SCHEME = APIKeyHeader(name="X-Key")


@pytest.mark.parametrize(
    "scheme",
    [Depends(SCHEME.__call__), Depends(functools.partial(SCHEME)), Security(by_hand, scopes=["read"])],
    ids=["method", "partial", "scopes"],
)
def test_a_scheme_of_security_is_found_however_it_is_given(app, scheme):
    @app.get("/mine")
    @cached(ttl=60)
    async def mine(key: Annotated[str, scheme]) -> str:
        return key

    async def scenario(served: Served) -> None:
        for name in "ann", "bob":
            found = await served.get("/mine", x_key=name)
            assert (found.json(), found.headers.get("x-cache")) == (name, None)

    ask(app, scenario)
