"""What importing imports, and who may import whom."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter

import layers
import pytest
from layers import ABOVE_THE_CHAIN, LAYERS, MODULES, PACKAGE
from layers import top as _top

import tiercache

BACKENDS = {
    "diskcache",
    "redis",
    "sqlalchemy",
    "numpy",
    "cryptography",
    "backports",
    "langchain",
    "langchain_core",
    "pydantic",
    "yaml",
    "xxhash",
    "prometheus_client",
    "opentelemetry",
    "fastapi",
    "starlette",
    "pytest",
    "tenacity",
    "limits",
}

#: What else one module takes of a tier: how its URLs are read, which lead to the same servers.
READS_URLS = {"_loading.shared_rate": {"tiers.redis._connect"}}
#: What a tier may import; a tier is used by the chain through the protocol alone, and knows nothing of it.
FOR_TIERS = {
    "accounts",
    "debts",
    "protocols",
    "entry",
    "envelope",
    "errors",
    "codecs",
    "units",
    "forks",
    "_file_lock",
    "_log",
    "_masking",
    "_paths",
    "_turns",
    "policies",
    "sqlite_gate",
    "watchdog",
}


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    """What each module imports: read by the process that runs the tests below, not by all that collect."""
    return layers.graph()


def test_there_is_something_to_check(graph):
    assert {"", "errors", "chain", "tiers.encoded", "testing.spy"} <= MODULES.keys()
    assert graph["tiers.encoded"] >= {"entry", "envelope", "protocols"}


def test_every_import_exists(graph):
    for module, imported in graph.items():
        assert imported <= MODULES.keys(), module


def test_every_module_has_its_place():
    layered = set().union(*LAYERS)
    homeless = {_top(module) for module in MODULES} - layered - ABOVE_THE_CHAIN - {"tiers", "testing"}
    assert not homeless, "give it a layer in this file, and with it what it may import"


@pytest.mark.parametrize(("level", "layer"), list(enumerate(LAYERS)))
def test_layers_import_downwards(graph, level, layer):
    allowed = set().union(*LAYERS[: level + 1])
    for module, imported in graph.items():
        if _top(module) in layer:
            assert {_top(name) for name in imported - READS_URLS.get(module, set())} <= allowed, module


def test_tiers_know_nothing_of_the_chain_or_each_other(graph):
    for module, imported in graph.items():
        if _top(module) == "tiers":
            inside = {name for name in imported if _top(name) == "tiers"}
            assert {_top(name) for name in imported - inside} <= FOR_TIERS, module
            own = ".".join(module.split(".")[:2])  # the tier's folder
            others = {name for name in inside if name != own and not name.startswith(f"{own}.")}
            assert others <= {"tiers.encoded"}, module


def test_only_what_a_user_touches_imports_the_chain(graph):
    importers = {_top(module) for module, imported in graph.items() if "chain" in imported}
    assert importers <= ABOVE_THE_CHAIN
    assert "cli" in importers


def test_the_testing_kit_needs_only_the_contracts(graph):
    for module, imported in graph.items():
        if _top(module) == "testing":
            assert {_top(name) for name in imported} <= {"testing", "entry", "errors", "protocols", "keys"}, (
                module
            )


def test_no_cycles(graph):
    # Each package's own __init__ runs before its modules; that edge is Python's, not ours.
    edges = {
        module: {name for name in imported if not module.startswith(f"{name}.") and name}
        for module, imported in graph.items()
    }
    assert list(TopologicalSorter(edges).static_order())


def _loaded_by(code: str) -> set[str]:
    """The top-level modules that a new interpreter has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import tiercache", set()),
        ("from tiercache import TieredCache, Entry, TierError, MemoryTier", set()),
        ("import tiercache.codecs", set()),
        ("import tiercache.config", {"pydantic"}),
        ("import tiercache.testing", set()),
        ("import tiercache.cli.check, tiercache.cli.stats", set()),
        ("from tiercache.testing import TierConformance", {"pytest"}),
        ("import tiercache.observability.logging", set()),
        ("import tiercache.observability.prometheus", {"prometheus_client"}),
        (
            "import tiercache.integrations.fastapi",
            {"fastapi", "starlette", "pydantic", "opentelemetry"},
        ),  # the last two are FastAPI's own doing
        ("import tiercache.observability.opentelemetry", {"opentelemetry"}),
        ("from tiercache import DiskTier", {"diskcache", "xxhash"}),
        (
            "from tiercache import RedisTier",
            {"redis", "xxhash", "cryptography", "opentelemetry"},
        ),  # the last two are redis's own doing
        ("from tiercache import SQLTier", {"sqlalchemy", "xxhash"}),
    ],
)
def test_an_import_brings_only_its_own_backend(code, allowed):
    assert _loaded_by(code) & BACKENDS <= allowed


def test_every_public_name_is_there():
    for name in tiercache.__all__:
        assert getattr(tiercache, name) is not None
    assert set(dir(tiercache)) >= set(tiercache.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tiercache.nothing  # noqa: B018 - the look-up is the point


def test_no_module_has_the_name_of_something_public():
    # Importing it would put the module in the place of what it defines.
    assert not {f"{name}.py" for name in tiercache.__all__} & {path.name for path in PACKAGE.iterdir()}
