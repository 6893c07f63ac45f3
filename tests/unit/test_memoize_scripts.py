"""Whose function it is that ``@cache.cached`` keeps results of: a script's, a notebook's."""

from __future__ import annotations

import os
import sys

import pythons

from tiercache import DiskTier, TieredCache

SCRIPT = """
import sys
from tiercache import DiskTier, TieredCache
from tiercache.codecs import JSONCodec

with TieredCache([DiskTier(sys.argv[1])], codec=JSONCodec()) as cache:
    print(cache.cached(lambda x: sum(i for i in x) in {"a", "b", 6}).cache_key([1, 2, 3]))

    @cache.cached
    def answer(question):
        return ANSWER

    print(answer("why?"))
"""


def test_scripts_are_told_apart_and_keep_their_keys_from_run_to_run(tmp_path):
    said = []
    for name, answer in (("one", 1), ("two", 2), ("one", 3)):
        script = tmp_path / name / "job.py"
        script.parent.mkdir(exist_ok=True)
        script.write_text(SCRIPT.replace("ANSWER", str(answer)))
        command = [sys.executable, str(script), str(tmp_path / "cache")]
        said.append(
            pythons.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.split()
        )
    (lambda_one, first), (lambda_two, second), (lambda_again, third) = said
    assert (first, second, third) == ("1", "2", "1")
    assert lambda_one == lambda_again != lambda_two


TYPED_IN = """
from tiercache import DiskTier, TieredCache
from tiercache.codecs import JSONCodec

cache = TieredCache([DiskTier(PATH)], codec=JSONCodec())

@cache.cached
def ask(question):
    return ANSWER

print(ask("why?"))
cache.close()
"""


def typed_in(folder, path, answer, *, how, **variables):
    """What the program prints, given to an interpreter in ``folder``."""
    program = TYPED_IN.replace("PATH", repr(str(path))).replace("ANSWER", repr(answer))
    folder.mkdir(exist_ok=True)
    return pythons.run(
        [sys.executable, *(["-c", program] if how == "-c" else ["-"])],
        input=program,
        cwd=folder,
        env={**os.environ, "JPY_SESSION_NAME": "", **variables},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


def test_what_is_in_no_file_is_told_apart_by_its_folder_and_its_code(tmp_path):
    path = tmp_path / "cache"
    one, two = tmp_path / "one", tmp_path / "two"
    assert typed_in(one, path, "one", how="-") == "one"
    assert typed_in(one, path, "changed", how="-") == "changed"
    assert typed_in(one, path, "one", how="-") == "one"
    assert len(kept_in(path)) == 2
    assert typed_in(two, path, "one", how="-") == "one"
    assert len(kept_in(path)) == 3


def test_a_notebook_is_known_by_its_path(tmp_path):
    path = tmp_path / "cache"
    for folder, notebook in (("one", "a.ipynb"), ("two", "a.ipynb"), ("two", "b.ipynb")):
        session = str(tmp_path / notebook)
        assert typed_in(tmp_path / folder, path, "same", how="-c", JPY_SESSION_NAME=session) == "same"
    assert len(kept_in(path)) == 2


def kept_in(path):
    """The keys of a cache's disk tier."""
    with TieredCache([DiskTier(path)]) as cache:
        return list(cache.keys())


SPAWNS = """
import multiprocessing
import sys
from tiercache import MemoryTier, TieredCache

cache = TieredCache([MemoryTier()])

@cache.cached
def ask(question):
    return b""

def key():
    return ask.cache_key("why?")

if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(key(), pool.apply(key))
"""


def test_the_processes_that_a_script_spawns_keep_results_under_its_name(tmp_path):
    keys = []
    for name in ("one", "two"):
        script = tmp_path / f"{name}.py"
        script.write_text(SPAWNS)
        done = pythons.run(
            [sys.executable, str(script)], capture_output=True, text=True, check=True, timeout=60
        )
        keys.append(done.stdout.split())
    (mine, child), (other, _) = keys
    assert mine == child != other


def test_a_folder_that_is_run_is_told_apart_from_others(tmp_path):
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__main__.py").write_text(SPAWNS.partition("if __name__")[0] + "print(key())")
        command = [sys.executable, str(tmp_path / name)]
        keys.add(pythons.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)
    assert len(keys) == 2
