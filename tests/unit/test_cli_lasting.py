"""What a command can do with a chain whose lower tiers can neither list nor clear: that it says so."""

from __future__ import annotations

import json

import pytest
from shell import run

from tiercache import EncodedTier, register_tier
from tiercache.testing import DictStore

pytestmark = pytest.mark.usefixtures("registries")


@pytest.fixture
def make(tmp_path):
    """Writes the configuration of a chain of tiers of those types: `folder` is a store that can do no more
    than it must, and lasts as long as the test."""
    store = DictStore()
    register_tier("folder", lambda name="folder": EncodedTier(Bare(store), name=name))

    def write(*tiers):
        path = tmp_path / f"{'-'.join(tiers)}.toml"
        path.write_text("".join(map(table, tiers)))
        return path

    def table(tier):
        return f'[[tiers]]\ntype = "{tier}"\n' + ("directory = 'disk'\n" if tier == "disk" else "")

    return write


class Bare:
    """The four verbs of a byte store. Each command has one of its own, as in a process of its own."""

    def __init__(self, store):
        self.mget, self.mset, self.mdelete = store.mget, store.mset, store.mdelete

    def close(self):
        """It is there for the next command."""


INSIDE = """
[[tiers]]
type = "memory"
[[tiers]]
type = "chain"
tiers = [{type = "memory"}, {type = "folder"}]
"""


@pytest.mark.parametrize("tiers", [("memory", "folder"), ("folder",), ("memory", "chain")])
def test_a_tier_that_cannot_be_cleared_is_named(make, tiers):
    config = make(*tiers)
    if "chain" in tiers:
        config.write_text(INSIDE)
    assert run("-c", config, "set", "key", "value").code == 0
    done = run("-c", config, "clear", "--yes")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        f"tiercache: not cleared in {tiers[-1]}, where not all can be listed or cleared: it is still served "
        f"from there; delete its keys, or empty {tiers[-1]} by other means\n"
    )
    assert run("-c", config, "get", "key").out == "value"
    assert "yes" in run("-c", config, "inspect", "key").out


def test_what_a_disk_tier_has_noted_is_told_to_be_there_for_others(make):
    config = make("memory", "disk", "folder")
    assert run("-c", config, "set", "key", "value").code == 0
    done = run("-c", config, "clear", "--yes")
    assert done.code == 1
    assert done.err == (
        "tiercache: not cleared in folder, where not all can be listed or cleared: disk has noted that it is "
        "not served, but a chain without disk serves it still\n"
    )
    seen = json.loads(run("-c", config, "inspect", "key", "--json").out)["tiers"]
    assert [(one["tier"], one["holds"], one.get("deleted")) for one in seen] == [
        ("memory", None, None), ("disk", False, None), ("folder", True, True)
    ]  # fmt: skip
    assert run("-c", make("folder"), "get", "key").out == "value"
    assert run("-c", config, "get", "key").code == 1


@pytest.mark.parametrize("tiers", [("memory", "folder"), ("folder",), ("memory", "chain")])
def test_the_memory_of_a_command_is_no_list_of_keys(make, tiers):
    config = make(*tiers)
    if "chain" in tiers:
        config.write_text(INSIDE)
    run("-c", config, "set", "key", "value")
    for flags in ((), ("--json",)):
        done = run("-c", config, "keys", *flags)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"tiercache: no tier of this chain can list its keys, which {tiers[-1]} may hold\n"


def test_a_tier_that_is_left_out_of_a_list_is_named(make):
    config = make("memory", "disk", "folder")
    run("-c", config, "set", "key", "value")
    done = run("-c", config, "keys")
    assert (done.code, done.out) == (1, "key\n")
    assert done.err == ("tiercache: what only folder may hold is left out: no keys can be listed there\n")
    done = run("-c", make("memory", "folder", "disk"), "keys")  # the lowest lists: all is there
    assert (done.code, done.out, done.err) == (0, "key\n", "")


def test_memory_alone_lists_nothing(make):
    done = run("-c", make("memory"), "keys", "--json")
    assert (done.code, done.out) == (0, "[]\n")
    assert "memory alone" in done.err


@pytest.mark.parametrize("tiers", [("memory",), ("memory", "memory"), ("memory", "chain")])
@pytest.mark.parametrize(
    "command",
    [
        *(("set", "key", "value"), ("delete", "key"), ("clear", "--yes"), ("purge", "--expired")),
        *(("warm", "-"), ("import", "-"), ("migrate", "langchain-files", "folder")),
    ],
)
def test_what_would_be_in_the_memory_of_a_command_alone_is_not_done(make, tmp_path, tiers, command):
    config = make(*tiers)
    if "chain" in tiers:
        config.write_text(INSIDE.replace("folder", "memory"))
    done = run("-c", config, *command, stdin=b'{"key": "key", "value": "value"}\n')
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "tiercache: nothing is done: the cache is memory alone, which each process has of its own, and that "
        "of a command ends with it\n"
    )


@pytest.mark.parametrize(
    ("tiers", "flags", "what"),
    [
        (("memory",), (), "the cache"),
        (("memory", "chain"), ("--tier", "chain"), "the cache"),
        (("memory", "disk"), ("--tier", "memory"), "the tier 'memory'"),
    ],
)
def test_the_memory_of_a_command_is_no_archive(make, tmp_path, tiers, flags, what):
    config = make(*tiers)
    if "chain" in tiers:
        config.write_text(INSIDE.replace("folder", "memory"))
    archive = tmp_path / "a.tca"
    for target in (archive, "-"):
        done = run("-c", config, "export", target, *flags)
        assert (done.code, done.out) == (1, "")
        assert done.err == (
            f"tiercache: nothing is exported: {what} is memory alone, which each process has of its own, and "
            f"that of a command is empty; export_archive() in the program copies it\n"
        )
    assert not archive.exists()
