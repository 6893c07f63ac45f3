"""The site is built strictly, leads nowhere that is not there, and has a place for everything public."""

from __future__ import annotations

import fcntl
import inspect
import re
import shutil
from pathlib import Path

import pytest
from doc_snippets import ROOT
from website import llms
from website.build import BrokenSite, build
from website.links import dead
from website.names import INSIDE, ids, modules, names
from website.renewed import MADE, RENEW

from tiercache import errors, events
from tiercache.cli._app import COMMANDS

PAGES = llms.pages(ROOT)


@pytest.fixture(scope="module")
def site(tmp_path_factory, worker_id):
    """Built once for all workers, from a copy, so that nothing is built into the checkout itself."""
    place = tmp_path_factory.getbasetemp()
    folder = (place if worker_id == "master" else place.parent) / "checkout"
    with Path(f"{folder}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            try:
                shutil.copytree(ROOT / "docs", folder / "docs")
                shutil.copy(ROOT / "zensical.toml", folder)
                for name in ("tiercache", "tests"):
                    (folder / name).symlink_to(ROOT / name)
                build(folder)
            except BrokenSite as error:
                (folder / "broken").write_text(str(error))
    broken = folder / "broken"
    assert not broken.exists(), broken.read_text()
    return folder / "site"


@pytest.fixture(scope="module")
def anchors(site):
    return {path: set(re.findall(r'id="([^"]+)"', path.read_text())) for path in site.rglob("*.html")}


def test_each_page_is_in_the_navigation_once():
    there = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(PAGES) == sorted(there), "give it a place in the nav of zensical.toml"


def test_a_page_becomes_a_page(site):
    for page in PAGES:
        address = Path(page).with_suffix("")
        address = address.parent if address.name in ("index", "README") else address
        assert (site / address / "index.html").is_file()
        assert (site / page).read_text() == (ROOT / "docs" / page).read_text()


def test_every_public_name_is_on_a_page(anchors):
    there = set().union(*anchors.values())
    missing = {f"{module}.{name}" for module, name, found in names() if not ids(module, name, found) & there}
    assert not missing - INSIDE.keys(), "put it on a page in docs/reference/api"


def test_what_is_left_out_is_there():
    everything = {*(f"{module}.{name}" for module, name, _ in names())}
    files = {path.relative_to(ROOT).with_suffix("") for path in (ROOT / "tiercache").rglob("*")}
    for name, reason in INSIDE.items():
        assert reason
        assert name in everything or Path(*name.split(".")) in files
    assert {"tiercache", "tiercache.errors", "tiercache.codecs", "tiercache.archive"} <= set(modules())


def test_every_error_has_its_cause_and_its_cure(site, anchors):
    there = anchors[site / "reference" / "errors" / "index.html"]
    for name in errors.__all__:
        assert f"tiercache.errors.{name}" in there
        told = inspect.getdoc(getattr(errors, name))
        assert told.count("\nCause: ") == told.count("\nCure: ") == 1, name


def test_every_event_is_on_the_page(site, anchors):
    there = anchors[site / "reference" / "events" / "index.html"]
    for name in events.__all__:
        assert f"tiercache.events.{name}" in there


def test_every_command_is_in_the_navigation():
    assert {f"reference/cli/{name}.md" for name in COMMANDS} <= set(PAGES)


@pytest.mark.parametrize("file", MADE, ids=lambda file: file.name)
def test_what_is_made_from_the_code_is_up_to_date(file):
    assert file.read_text() == MADE[file](), f"renew it with: {RENEW}"


def test_programs_find_every_page(site):
    text = (site / "llms.txt").read_text()
    assert text.startswith("# tiercache\n\n> ")
    assert re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, re.MULTILINE) == PAGES
    everything = (site / "llms-full.txt").read_text()
    for page in PAGES:
        if not page.startswith("benchmarks/"):
            assert (ROOT / "docs" / page).read_text().split("\n", 1)[0] in everything
    assert "\n::: " not in everything
    assert "`tiercache.TieredCache.get_or_load(key: str, loader: " in everything
    assert "`tiercache.errors.WriteError`" in everything


def test_what_leads_nowhere_is_found(site, tmp_path):
    broken = tmp_path / "site"
    shutil.copytree(site / "assets", broken / "assets")
    (broken / "other").mkdir()
    (broken / "other" / "index.html").write_text('<p id="here"></p>')
    links = ("other/", "other/#here", "#top", "/other/", "https://elsewhere.example/x", "other/?q=1#here")
    page = "".join(f'<a id="top" href="{link}">x</a>' for link in links)
    (broken / "index.html").write_text(page)
    assert dead(broken) == []
    (broken / "index.html").write_text(
        page + '<a href="no/">x</a><a href="other/#no">x</a><script src="https://a.example/b.js"></script>'
        '<img src="no.svg"><link rel="stylesheet" href="//a.example/c.css">'
    )
    assert [line.split(", and")[0] for line in dead(broken)] == [
        "index.html loads https://a.example/b.js",
        "index.html loads //a.example/c.css",
        "index.html links to no/, which is not there",
        "index.html links to other/#no",
        "index.html links to no.svg, which is not there",
    ]


@pytest.mark.parametrize(
    "text",
    ["[x](nowhere.md)", "[x](how-to/pace.md#nowhere)", "::: tiercache.Nonsense"],
    ids=["page", "anchor", "name"],
)
def test_a_build_with_something_broken_fails(tmp_path, text):
    (tmp_path / "docs" / "how-to").mkdir(parents=True)
    config = (ROOT / "zensical.toml").read_text()
    (tmp_path / "zensical.toml").write_text(
        re.sub(r"nav = \[.*?\n\]\n", 'nav = ["index.md"]\n', config, flags=re.DOTALL)
    )
    for name in ("tiercache", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs" / "how-to" / "pace.md").write_text("# Pace\n")
    (tmp_path / "docs" / "index.md").write_text(f"# Home\n\n{text}\n")
    with pytest.raises(BrokenSite, match=r"does not exist|could not be found"):
        build(tmp_path)
