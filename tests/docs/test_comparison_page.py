"""The page that compares us with others says what was found, and what it says of us is so."""

from __future__ import annotations

import json

import pytest

from benchmarks.comparison import page
from benchmarks.comparison.__main__ import answer
from benchmarks.comparison.groups import GROUPS
from benchmarks.comparison.peers import PEERS

RESULTS = json.loads(page.RESULTS.read_text())
RENEW = "renew it with: python -m benchmarks.comparison --page"
CLAIMS = {(group.name, claim.name): claim for group in GROUPS for claim in group.claims}

#: Rows that are tried again, here, where little is installed; none of them waits for long.
OURS = [
    ("loading", "deleted-meanwhile"),
    ("failures", "spoilt"),
    ("failures", "deleted-while-away"),
    ("values", "keys"),
    ("values", "planted"),
]
#: These need no server and come with the tests' extra.
THEIRS = [
    ("values", "changed", "cachetools"),
    ("values", "changed", "functools.lru_cache"),
    ("failures", "spoilt", "diskcache"),
    ("values", "planted", "diskcache"),
]


def test_its_tables_are_what_was_found():
    text = page.PAGE.read_text()
    assert page.rendered(text, RESULTS) == text, RENEW


def test_there_is_an_answer_of_everybody_to_every_question():
    for group in GROUPS:
        found = {name: set(told) for name, told in RESULTS["answers"][group.name].items()}
        assert found == {claim.name: set(group.peers) for claim in group.claims}
        assert set(group.peers) <= set(RESULTS["versions"])


def test_each_row_is_told_by_its_own_name_and_says_what_it_tries():
    for group in GROUPS:
        names = [claim.name for claim in group.claims]
        assert len(set(names)) == len(names)
        for claim in group.claims:
            assert group.answer or claim.check.__doc__, claim.name


@pytest.mark.parametrize(("group", "claim"), OURS, ids=lambda name: name)
def test_what_is_said_of_us_is_so(group, claim):
    told = RESULTS["answers"][group][claim]["tiercache"]
    assert answer(CLAIMS[group, claim], "tiercache", None) == told


@pytest.mark.parametrize(("group", "claim", "peer"), THEIRS, ids=lambda name: name)
def test_what_is_said_of_others_is_so_in_that_version(group, claim, peer):
    tried = RESULTS["versions"][peer]
    installed = PEERS[peer].version(None)
    if peer != "functools.lru_cache" and installed != tried:
        pytest.skip(f"the page tells of {peer} {tried}, and {installed} is installed")
    assert answer(CLAIMS[group, claim], peer, None) == RESULTS["answers"][group][claim][peer]
