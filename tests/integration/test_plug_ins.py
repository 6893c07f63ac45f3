"""The plug-in of the documentation, installed; and packages whose plug-ins are broken.

It is built by its build backend where that is installed, and unpacked, as an installer does with a wheel of
pure Python. Elsewhere the files that would be in the wheel are written down.
"""

from __future__ import annotations

import os
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from types import ModuleType

import pytest
import pythons
from doc_snippets import ROOT, blocks
from shell import run

from tiercache import register_tier
from tiercache.testing import Capabilities, TierConformance

PAGE = ROOT / "docs" / "how-to" / "writing-a-plug-in.md"


def files():
    """The files on the page, by the names that begin them."""
    found = {}
    for block in blocks(PAGE, "toml", "python"):
        first = block.text.partition("\n")[0]
        found[first.removeprefix("# ")] = block.text
    return found


def write_metadata(site, package, entry_points):
    folder = site / f"{package.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
        for group, named in entry_points.items()
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))


@pytest.fixture
def site(tmp_path):
    """A folder with packages: the plug-in of the page is installed there."""
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    site.mkdir()
    for name in ("pyproject.toml", "tiercache_folder.py"):
        (source / name).write_text(files()[name])
    if find_spec("hatchling") is None:
        project = tomllib.loads(files()["pyproject.toml"])["project"]
        (site / "tiercache_folder.py").write_text(files()["tiercache_folder.py"])
        write_metadata(site, project["name"], project["entry-points"])
        return site
    build = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    done = python(build, str(tmp_path), cwd=source)
    with zipfile.ZipFile(tmp_path / done.splitlines()[-1]) as wheel:
        wheel.extractall(site)
    return site


def python(code, *arguments, cwd, path=()):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (*path, ROOT)))}
    done = pythons.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_is_a_whole_package(site, tmp_path):
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "tiercache.toml").write_text(files()["tiercache.toml"])
    python(files()["use.py"], cwd=folder, path=[site])
    assert [path.suffix for path in (folder / "data").iterdir()] == [".entry"]


module = ModuleType("tiercache_folder")
exec(compile(files()["tiercache_folder.py"], str(PAGE), "exec"), vars(module))  # noqa: S102 - our own page


class TestTheTierOfThePage(TierConformance):
    capabilities = Capabilities(values="bytes", persistent=True, scan=True, counters=True)
    exceptions = {"test_calls_after_close_raise": "it keeps nothing open, and the page is short"}  # noqa: RUF012 - as the suite has it

    def make_tier(self, tmp_path):
        return module.FolderTier(tmp_path / "data")


@pytest.mark.usefixtures("registries")
def test_the_tier_of_the_page_is_listed_and_cleared_by_commands(tmp_path):
    register_tier("folder", module.FolderTier)
    config = tmp_path / "tiercache.toml"
    config.write_text(
        f'[[tiers]]\ntype = "memory"\n[[tiers]]\ntype = "folder"\ndirectory = "{tmp_path}/data"\n'
    )
    assert run("-c", config, "set", "key", "value").code == 0
    assert run("-c", config, "set", "-n", "seen", "other", "1").code == 0
    assert run("-c", config, "keys").out == "key\n"
    done = run("-c", config, "clear", "--yes")
    assert (done.code, done.err) == (0, "")
    assert run("-c", config, "get", "key").code == 1
    assert run("-c", config, "keys", "-n", "seen").out == "other\n"


BROKEN = """
import sys
from tiercache import ConfigError, TieredCache, register_tier, registry

def told(**config):
    try:
        TieredCache.from_config({"tiers": [{"type": "memory"}], **config}).close()
    except ConfigError as error:
        print(str(error).removeprefix("the configuration: "))
    else:
        print("well")

told(codec="json")
told(codec={"type": "vector", "compress": "zstd"})
print(registry._offered.cache_info().currsize)
told(tiers=[{"type": "broken"}])
told(tiers=[{"type": "nowhere"}])
told(tiers=[{"type": "twice"}])
told(tiers=[{"type": "number"}])
told(tiers=[{"type": "foldr", "directory": "data"}])
told(codec="momnt")
told(codec="lost")
told(tiers=[{"type": "folder"}])
told(tiers=[{"type": "folder", "directory": "data", "sufix": ".x"}])
told(tiers=[{"type": "redis", "url": "redis://h"}])
register_tier("twice", "tiercache.testing:DictTier")
told(tiers=[{"type": "twice"}])
"""


def test_a_broken_plug_in_is_a_problem_where_it_is_asked_for(site, tmp_path):
    (site / "broken.py").write_text("raise RuntimeError('does not begin')\n")
    tiers = {
        "broken": "broken:Tier",
        "nowhere": "tiercache.testing:NoSuch",
        "twice": "tiercache.testing:DictTier",
    }
    tiers |= {"number": "tiercache.testing:__name__", "redis": "broken:Tier"}
    write_metadata(
        site, "first-package", {"tiercache.tiers": tiers, "tiercache.codecs": {"lost": "no_module:C"}}
    )
    write_metadata(site, "second-package", {"tiercache.tiers": {"twice": "tiercache.testing:SpyTier"}})
    lines = python(BROKEN, cwd=tmp_path, path=[site]).splitlines()
    assert lines.pop(0) == "well"
    assert lines[:2] == ["well", "0"], "nobody looks at packages for a name of ours"
    assert lines[2] == (
        "tiers[0]: the tier type 'broken' is offered by the package 'first-package' as 'broken:Tier', which "
        "cannot be imported: RuntimeError: does not begin"
    )
    assert "as 'tiercache.testing:NoSuch', which cannot be imported: AttributeError: " in lines[3]
    assert lines[4] == (
        "tiers[0]: the tier type 'twice' is offered by several packages: first-package, second-package; keep "
        "one of them"
    )
    assert lines[5].endswith(
        "offered by the package 'first-package' as 'tiercache.testing:__name__', no class"
    )
    assert lines[6].startswith('tiers[0].type: found "foldr"; allowed: "memory", "disk", "redis", "sql", ')
    assert lines[6].endswith('did you mean "folder"?')
    assert '"folder"' in lines[6].partition("did you")[0]
    assert lines[7].endswith('did you mean "moment"?')
    assert lines[8].startswith(
        "codec: the codec 'lost' is offered by the package 'first-package' as 'no_module:C'"
    )
    assert lines[9] == "tiers[0].directory: is missing"
    assert lines[10].endswith('did you mean "suffix"?')
    assert lines[11:] == ["well", "well"]
