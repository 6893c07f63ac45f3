"""Who imports whom in the package, read from its files, and the layers that this is to keep to."""

from __future__ import annotations

import ast
from pathlib import Path

import tiercache

PACKAGE = Path(tiercache.__file__).parent

#: Each layer may import from those above it in this list, and from itself.
LAYERS = (
    {
        "errors",
        "entry",
        "forks",
        "_file_lock",
        "_log",
        "_masking",
        "_paths",
        "_processes",
        "_turns",
        "_words",
        "sqlite_gate",
        "watchdog",
    },
    {"debts", "accounts", "protocols", "units", "envelope"},
    {
        "policies",
        "keys",
        "call_keys",
        "prompt_keys",
        "tokens",
        "stats",
        "_counted",
        "_digests",
        "shared_stats",
        "events",
        "observing",
        "codecs",
        "budget",
        "ledger",
        "popular",
    },
    {"_running"},
    {"_guard"},
    {"_consistency"},
    {"_books"},
    {"_chain", "_loading", "_sharing", "loading", "memoize"},
    {
        "config",
        "registry",
        "_described",
        "_ledgered",
        "_namespaced",
        "_views",
        "spending",
    },  # the chain hands itself to it, to be built
    {"chain"},
)
#: Who may import the chain: what a user touches.
ABOVE_THE_CHAIN = {"", "archive", "cli", "integrations", "observability", "__main__"}


def _module(path: Path) -> str:
    """``tiers.disk`` for ``tiercache/tiers/disk.py``; ``""`` for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {_module(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def _imports(path: Path) -> set[str]:
    """The modules of ours that the file imports when it runs, anywhere in it; not those for type checkers."""

    class Visitor(ast.NodeVisitor):
        def __init__(self) -> None:
            self.found: set[str] = set()

        def visit_If(self, node: ast.If) -> None:
            if "TYPE_CHECKING" in ast.unparse(node.test):
                for other in node.orelse:
                    self.visit(other)
            else:
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            self.found.update(name.name for name in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"{path}: imports are absolute"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                self.found.add(inner if inner.removeprefix("tiercache.") in MODULES else str(node.module))

    visitor = Visitor()
    visitor.visit(ast.parse(path.read_text()))
    ours = {name for name in visitor.found if name.split(".")[0] == "tiercache"}
    return {name.removeprefix("tiercache").removeprefix(".") for name in ours}


def graph() -> dict[str, set[str]]:
    """What each module imports."""
    return {module: _imports(path) for module, path in MODULES.items()}


def top(module: str) -> str:
    """The module or package right below `tiercache` that it is, or is in."""
    return module.partition(".")[0]
