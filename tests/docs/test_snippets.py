"""Every Python block of the documentation runs, and every command, in the order of its page."""

from __future__ import annotations

import re
import shlex
import tempfile

import pytest
import shell
from doc_shell import SHELL, prepare, run_block
from doc_snippets import PAGES, ROOT, blocks, run
from selections import together


def _name(page):
    return str(page.relative_to(ROOT))


#: Those with something that runs.
RUN_PAGES = [page for page in PAGES if any(block.reason is None for block in blocks(page, "python", *SHELL))]
#: Embeds with a real model, which takes its time; the page begins in an empty folder each time.
REAL_MODEL = "docs/how-to/langchain/caching-embeddings.md"
#: The variables by which a page is told of a server, and the fixture that starts it.
SERVERS = {
    "REDIS_URL": "valkey",
    "REDIS_SENTINEL_URL": "valkey_sentinel",
    "REDIS_CLUSTER_URL": "valkey_cluster",
    "DATABASE_URL": "postgres_url",
}


def _commands():
    """Each command line of a shell block: after its prompt in a console, every line elsewhere."""
    for page in PAGES:
        for block in blocks(page, *SHELL):
            text = block.text.replace("\\\n", " ")
            for line in text.splitlines():
                if block.language == "console" and not line.startswith("$ "):
                    continue
                words = shlex.split(line.removeprefix("$ "), comments=True)
                if words:
                    yield _name(page), words


COMMANDS = list(_commands())


@pytest.mark.parametrize("page", RUN_PAGES, ids=_name)
def test_blocks_run(page, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TIERCACHE_CONFIG", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name, fixture in SERVERS.items():
        if f'os.environ["{name}"]' in page.read_text():
            server = request.getfixturevalue(fixture)
            monkeypatch.setenv(name, getattr(server, "url", server))
    prepare(page)
    # Twice in one place, as readers do: a cache remembers, and what an example claims holds then too. Of
    # commands the output is shown that they have at first.
    has_commands = any(block.reason is None for block in blocks(page, *SHELL))
    for _ in range(1 if has_commands or _name(page) == REAL_MODEL else 2):
        with run(page, run_block):
            pass


@together("page", PAGES)
def test_what_is_not_run_has_its_reason(page):
    text = page.read_text()
    reasons = [block.reason for block in blocks(page, "python", *SHELL) if block.reason is not None]
    assert all(reasons)
    assert len(re.findall(r"^<!-- no-run", text, re.MULTILINE)) == len(reasons), (
        "a no-run comment stands right before a block that would run"
    )
    others = [block for block in blocks(page) if block.how not in ("", "no-run")]
    assert all(block.told for block in others)
    assert all((block.how == "file") == (block.language not in SHELL) for block in others)
    assert len(re.findall(r"^<!-- (?:file|output [a-z ]+):", text, re.MULTILINE)) == len(others), (
        "such a comment stands right before a file, or before commands with output"
    )


@together(("page", "words"), COMMANDS)
def test_commands_exist(page, words):
    while words and re.fullmatch(r"\w+=.*", words[0]):
        words = words[1:]  # FOO=bar make …
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        asked = [word for word in words[1:] if "=" not in word and not word.startswith("-")]
        assert asked
        assert set(asked) <= targets
    elif words[0] == "tiercache":
        options = [re.match(r"--[\w-]+", word)[0] for word in words if word.startswith("--")]
        depth = 3 if words[1:2] == ["migrate"] else 2  # a group of commands
        subcommand = words[1:depth] if len(words) > 1 and not words[1].startswith("-") else []
        done = shell.run(*subcommand, "--help")  # in this process: there are many
        assert done.code == 0, done.err
        for option in options:
            assert option in done.out, f"{' '.join(words)}: there is no {option}"


def test_the_distributions_name_is_right_everywhere():
    # Another project owns the short name on the package index.
    wrong = re.compile(r"pip3? install[^\n`]*?[\s'\"]tiercache(?!-framework)\b(?!\.)")
    files = [
        *ROOT.glob("*.md"),
        ROOT / "Makefile",
        *(ROOT / "docs").rglob("*"),
        *(ROOT / "tiercache").rglob("*.py"),
    ]
    for file in files:
        if file.is_file():
            assert not wrong.search(file.read_text()), f"{_name(file)} would install another project"
    install = "pip install"  # apart from the name, so that a search of the tree finds no wrong line
    assert wrong.search(f"{install} tiercache")
    assert wrong.search(f'{install} "tiercache[redis]"')
    assert not wrong.search(f'{install} "tiercache-framework[redis]"')


@together("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{_name(page)} links to {target}"


@together("page", PAGES)
def test_modules_that_are_named_are_there(page):
    for name in re.findall(r"`(tiercache/[\w/]+\.py)`", page.read_text()):
        assert (ROOT / name).is_file(), f"{_name(page)} names {name}"
