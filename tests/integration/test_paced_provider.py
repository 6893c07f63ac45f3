"""Loaders that call a server over HTTP, which has too much to do, breaks off, or says nothing: the caller
gets the value, or the provider's own error."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from email.utils import formatdate
from http.client import IncompleteRead, RemoteDisconnected

import httpx
import pytest
from provider import HALF, NOTHING, SILENCE, provider
from waiting import LIMIT, auntil

from tiercache import MemoryTier, TieredCache
from tiercache._loading.closing import Closing
from tiercache.codecs import JSONCodec
from tiercache.loading import Retry


@pytest.fixture(scope="module")
def server():
    with provider() as made:
        yield made


@pytest.fixture
def slept(clock, monkeypatch):
    """For how long callers slept, on a clock that went on at once."""
    seconds = []

    async def sleep(_self, _runtime, pause):
        seconds.append(pause)
        clock.advance(pause)

    monkeypatch.setattr(Closing, "pause", sleep)
    return seconds


@pytest.fixture
def make(server, clock, slept):
    """Asks the server for one key, through a cache with some options; its client waits ``seconds``."""
    server.script.clear()
    server.asked.clear()
    made = []

    def making(client, *, seconds=LIMIT, **options):
        cache = TieredCache([MemoryTier(clock=clock)], codec=JSONCodec(), clock=clock, **options)
        made.append(cache)
        return lambda key="k": CLIENTS[client](cache, server.url, key, seconds)

    yield making
    for cache in made:
        assert not cache._core.space.flights
        cache.close()


def by_httpx(cache, url, key, seconds):
    def load(key):
        answer = httpx.post(url, json=[key], timeout=seconds)
        answer.raise_for_status()
        return answer.json()[0]

    return cache.get_or_load(key, load)


def by_async_httpx(cache, url, key, seconds):
    async def load(keys):
        async with httpx.AsyncClient(timeout=seconds) as client:
            answer = await client.post(url, json=keys)
        answer.raise_for_status()
        return answer.json()

    return asyncio.run(cache.amget_or_load([key], load))[0]


def by_urllib(cache, url, key, seconds):
    def load(key):
        request = urllib.request.Request(url, json.dumps([key]).encode())  # noqa: S310 - our own server
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - as above
                return json.load(answer)[0]
        except urllib.error.HTTPError as error:
            error.close()
            raise

    return cache.get_or_load(key, load)


def by_function(cache, url, key, seconds):
    @cache.cached(key=lambda text: text)
    async def embed(text):
        async with httpx.AsyncClient(timeout=seconds) as client:
            answer = await client.post(url, json=[text])
        answer.raise_for_status()
        return answer.json()[0]

    return asyncio.run(embed(key))


CLIENTS = {"httpx": by_httpx, "async httpx": by_async_httpx, "urllib": by_urllib, "cached": by_function}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("trouble", [429, 503, (429, {"Retry-After": "7"}), HALF, NOTHING, SILENCE])
def test_what_passes_is_tried_again(make, server, slept, client, trouble):
    ask = make(client, retry=True, seconds=1 if trouble == SILENCE else LIMIT)
    server.script[:] = [trouble, trouble]
    assert ask() == ask() == "vector of k"
    assert server.asked == [["k"]] * 3
    first, second = slept
    if isinstance(trouble, tuple):
        assert 7 <= first <= 8
        assert 7 <= second <= 8
    else:
        assert 2 <= first <= 3
        assert 4 <= second <= 5


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("trouble", [429, HALF, NOTHING])
def test_when_no_try_is_left_it_is_the_providers_own_error(make, server, slept, client, trouble):
    ask = make(client, retry=True)
    server.script[:] = [trouble] * 4
    with pytest.raises(
        (httpx.HTTPError, urllib.error.URLError, IncompleteRead, RemoteDisconnected)
    ) as raised:
        ask()
    assert raised.value.__cause__ is None or "tenacity" not in type(raised.value.__cause__).__module__
    assert len(server.asked) == 4
    assert len(slept) == 3
    for seconds, least in zip(slept, (2, 4, 8), strict=True):
        assert least <= seconds <= least + 1
    assert ask() == "vector of k"  # and nothing was kept of it


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500])
def test_what_does_not_pass_is_told_at_once(make, server, slept, client, status):
    ask = make(client, retry=True)
    server.script[:] = [status]
    with pytest.raises((httpx.HTTPStatusError, urllib.error.HTTPError)):
        ask()
    assert len(server.asked) == 1
    assert not slept


def test_what_is_named_is_tried_too(make, server):
    for on in ([500], ["HTTPStatusError"], [httpx.HTTPStatusError]):
        ask = make("httpx", retry=Retry(1, on=on))
        server.script[:] = [500]
        assert ask() == "vector of k"
        server.script[:] = [400]
        with pytest.raises(httpx.HTTPStatusError):
            ask("l")
        server.script.clear()
    ask = make("httpx", retry={"tries": 1, "on": [400]})
    server.script[:] = [400]
    assert ask() == "vector of k"


def test_a_date_says_when_and_one_that_is_too_late_is_not_waited_for(make, server, clock, slept):
    ask = make("httpx", retry=3)
    server.script[:] = [(503, {"Retry-After": formatdate(clock.time() + 30, usegmt=True)})]
    assert ask() == "vector of k"
    assert 29 <= slept[0] <= 31
    server.script[:] = [(429, {"Retry-After": "61"})]
    with pytest.raises(httpx.HTTPStatusError):
        ask("l")
    assert len(slept) == 1


def test_nothing_is_tried_unless_asked(make, server, slept):
    server.script[:] = [429]
    with pytest.raises(httpx.HTTPStatusError):
        make("httpx")()
    for off in (False, 0):
        server.script[:] = [429]
        with pytest.raises(httpx.HTTPStatusError):
            make("httpx", retry=off)()
    assert not slept


def test_each_try_keeps_to_the_rate_and_gives_its_place_back_meanwhile(make, server, clock, slept):
    ask = make("httpx", retry=3, rate="2/min", concurrency=1)
    server.script[:] = [429, 429]
    begun = clock.monotonic()
    assert ask() == "vector of k"
    assert clock.monotonic() - begun >= 60
    assert len(server.asked) == 3


def test_a_load_whose_caller_has_gone_is_tried_again_behind_it(server, clock, slept):
    server.script[:] = [SILENCE]
    server.asked.clear()

    async def scenario():
        async with TieredCache([MemoryTier(clock=clock)], codec=JSONCodec(), retry=1, clock=clock) as cache:

            def load(key):
                answer = httpx.post(server.url, json=[key], timeout=0.5)
                answer.raise_for_status()
                return answer.json()[0]

            task = asyncio.ensure_future(cache.aget_or_load("k", load))
            await auntil(lambda: server.asked)
            task.cancel()
            await asyncio.wait([task])
            await cache.aflush()
            assert cache.get("k") == "vector of k"

    asyncio.run(asyncio.wait_for(scenario(), LIMIT))
    assert len(server.asked) == 2
