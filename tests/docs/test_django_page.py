"""The project of the page on Django: its files, made here, served by Django's own server and by gunicorn."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest
from doc_snippets import ROOT, blocks
from waiting import LIMIT, until

PAGE = ROOT / "docs" / "how-to" / "django.md"

SCENARIO = """
import asyncio
import django
django.setup()
from django.db import connection, transaction
from django.test import AsyncClient, Client
from django.test.utils import setup_test_environment
from shop.caches import cache
from shop.models import Article

setup_test_environment()
client = Client()
tea = Article.objects.create(name="tea", price="1.20")

def told():
    return client.get(f"/{tea.pk}/").json()["price"]

def behind_its_back(price):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE shop_article SET price = %s", [price])

assert client.get("/99/").status_code == 404
assert told() == "1.20"
behind_its_back("1.30")
assert told() == "1.20"  # it is kept
tea.price = "1.40"
with transaction.atomic():
    tea.save()
    assert told() == "1.20"  # not committed yet
assert told() == "1.40"
behind_its_back("1.50")
assert told() == "1.40"
try:
    with transaction.atomic():
        tea.save()
        raise LookupError
except LookupError:
    pass
assert told() == "1.40"  # rolled back: nothing was dropped
tea.delete()
assert client.get("/1/").status_code == 404

Article.objects.create(name="milk", price="2")

async def index():
    return (await AsyncClient().get("/")).json()["names"]

assert asyncio.run(index()) == ["milk"]
behind = Article.objects.create(name="coffee", price="3")
assert asyncio.run(index()) == ["milk"]
assert cache.stats().unstorable == 0
cache.close()
"""

#: What the page says of tests: a cache of memory alone, and what a commit would do.
TESTS = """
from django.test import TestCase
from shop.caches import cache
from shop.models import Article

class Changes(TestCase):
    def setUp(self):
        cache.clear()

    def test_a_change(self):
        self.assertEqual([tier.name for tier in cache.stats().tiers], ["memory"])
        tea = Article.objects.create(name="tea", price="1.20")
        told = lambda: self.client.get(f"/{tea.pk}/").json()["price"]
        self.assertEqual(told(), "1.20")
        tea.price = "1.40"
        tea.save()
        self.assertEqual(told(), "1.20")
        with self.captureOnCommitCallbacks(execute=True):
            tea.save()
        self.assertEqual(told(), "1.40")

    test_and_again = test_a_change
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The page's files, by the names that their first lines say, with a database."""
    for block in blocks(PAGE, "python"):
        file = tmp_path / block.text.split("\n")[0].removeprefix("# ")
        assert file.suffix == ".py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(block.text)
        (file.parent / "__init__.py").touch()
    run(tmp_path, "manage.py", "migrate", "--run-syncdb")
    return tmp_path


def environment() -> dict[str, str]:
    """For a process that is to find this tree, and the page's settings."""
    path = os.pathsep.join([".", str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "mysite.settings"}


def run(project: Path, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def sql(project: Path, statement: str) -> None:
    """Of somebody whom Django knows nothing of."""
    with closing(sqlite3.connect(project / "db.sqlite3")) as database, database:
        database.execute(statement)


def get(port: int) -> str | None:
    """The price of the article; None while nobody answers."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    try:
        connection.request("GET", "/1/")
        response = connection.getresponse()
        assert response.status == 200
        return str(json.load(response)["price"])
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether it has, a second after it and its children were told to. They are told each time: a worker
    that gunicorn just forks has the handlers of its parent, and the signal is lost."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    return process.returncode is not None


@contextmanager
def serving(project: Path, *command: str, pass_fds: tuple[int, ...] = ()) -> Iterator[None]:
    with (project / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command],
            cwd=project,
            env={**environment(), "HOME": str(project), "PYTHONUNBUFFERED": "1"},
            stdout=log,
            stderr=log,
            pass_fds=pass_fds,
            start_new_session=True,  # runserver's child ends with it
        )
        try:
            yield
        finally:
            try:
                until(lambda: has_ended(process), "the server to end")
            finally:
                process.kill()
                process.wait()
    assert "Traceback" not in (project / "log").read_text(), (project / "log").read_text()


def test_what_the_page_says_of_views_and_changes(project):
    run(project, "-W", "error", "-c", SCENARIO)


def test_what_the_page_says_of_tests(project):
    (settings,) = re.findall(r"^  `(TIERCACHE = .*?)`", PAGE.read_text(), re.MULTILINE)
    (project / "mysite" / "for_tests.py").write_text(f"from .settings import *\n{settings}\n")
    (project / "shop" / "tests.py").write_text(TESTS)
    run(project, "manage.py", "test", "--settings", "mysite.for_tests")


def test_djangos_own_server_begins_again_and_the_disk_has_all(project):
    sql(project, "INSERT INTO shop_article (name, price) VALUES ('tea', 1.20)")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with serving(project, "manage.py", "runserver", f"127.0.0.1:{port}"):
        until(lambda: get(port) == "1.20", "the server")
        sql(project, "UPDATE shop_article SET price = 9")
        views = project / "shop" / "views.py"
        views.write_text(views.read_text().replace('"price": str(', '"price": "new " + str('))
        touched = [time.monotonic()]

        def begun_again() -> bool:
            # Django looks once a second, and what changed before its first look is no change.
            if time.monotonic() > touched[-1] + 2:
                touched.append(time.monotonic())
                os.utime(views)
            return (project / "log").read_text().count("Watching for file changes") > 1

        until(begun_again, "a new start")
        until(lambda: get(port) is not None, "the server")
        assert get(port) == "1.20"  # of the disk: the function was not asked
    views.write_text(views.read_text().replace('name="article"', 'name="article-v2"'))
    with serving(project, "manage.py", "runserver", f"127.0.0.1:{port}"):
        until(lambda: get(port) is not None, "the server")
        assert get(port) == "new 9.00"


@pytest.mark.parametrize("preload", [["--preload"], []], ids=["preloaded", "loaded in each"])
def test_all_workers_of_gunicorn_ask_the_database_once(project, preload):
    sql(project, "INSERT INTO shop_article (name, price) VALUES ('tea', 1.20)")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        bound = ["--bind", f"fd://{listening.fileno()}", "--workers", "2", *preload]
        with serving(project, "-m", "gunicorn", *bound, "mysite.wsgi", pass_fds=(listening.fileno(),)):
            port = listening.getsockname()[1]
            until(lambda: get(port) == "1.20", "the server")
            sql(project, "UPDATE shop_article SET price = 9")
            assert {get(port) for _ in range(40)} == {"1.20"}  # of both workers
