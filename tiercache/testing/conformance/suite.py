"""The suite's frame: what a subclass declares, which cases it gets, and the fixtures they use."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pytest

from tiercache.entry import Entry
from tiercache.testing.clock import FakeClock
from tiercache.testing.conformance.capabilities import Capabilities
from tiercache.testing.conformance.views import View

__all__ = ["MakeView", "Suite"]


class MakeView(Protocol):
    """Makes a tier (with a budget of ``max_bytes``, where given) in the view under test."""

    def __call__(self, max_bytes: int | None = None) -> View: ...


class Suite:
    """The frame of `TierConformance`, which adds the cases."""

    #: What the tier can do.
    capabilities: ClassVar[Capabilities] = Capabilities()
    #: Cases that the tier does not pass, and why: ``{"test_…": "reason"}``. They are run, and must fail.
    exceptions: ClassVar[Mapping[str, str]] = {}
    #: Starts at the real time, so that tiers which go by the machine's clock agree with it.
    clock: FakeClock

    _cases: ClassVar[dict[str, Callable[..., Any]]] = {}

    def make_tier(self, tmp_path: Path) -> Any:
        """An open tier. Empty, except where an earlier one of the same test used the same ``tmp_path``.

        Every test has a ``tmp_path`` of its own: a tier on a shared server derives its key prefix or
        table from the folder's name.
        """
        raise NotImplementedError(f"{type(self).__name__} must define make_tier(self, tmp_path)")

    def make_bounded_tier(self, tmp_path: Path, max_bytes: int) -> Any:
        """The same, with a budget of about ``max_bytes`` in all; for ``Capabilities(bounded=True)``."""
        raise NotImplementedError(
            f"{type(self).__name__} must define make_bounded_tier(self, tmp_path, max_bytes)"
        )

    def __init_subclass__(cls, *, cases: bool = False, **options: Any) -> None:
        super().__init_subclass__(**options)
        if cases:  # the class that gathers the cases
            cls._cases = {name: getattr(cls, name) for name in dir(cls) if name.startswith("test_")}
            return
        for base in cls.__mro__[: cls.__mro__.index(Suite)]:
            overridden = [
                name for name, case in cls._cases.items() if vars(base).get(name) not in (None, case)
            ]
            if overridden:
                raise TypeError(
                    f"{base.__name__} overrides {', '.join(overridden)}: a tier that does not pass a case "
                    f"declares that in `exceptions`, with the reason"
                )
        for name, reason in cls.exceptions.items():
            if name not in cls._cases:
                raise TypeError(f"{cls.__name__}.exceptions: there is no case {name!r}")
            if not reason.strip():
                raise TypeError(f"{cls.__name__}.exceptions: {name} is given no reason")
        # What does not apply is hidden rather than skipped: a report full of skips hides those that matter.
        for name, case in cls._cases.items():
            applies = all(map(cls.capabilities.has, getattr(case, "needs", ())))
            setattr(cls, name, case if applies else None)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each case through every view that the tier has (pytest calls this)."""
        if "way" in metafunc.fixturenames:
            ways = [way for way in ("blocking", "asynchronous") if self.capabilities.has(way)]
            if "asynchronous" in getattr(metafunc.function, "needs", ()):
                ways = ["asynchronous"]  # it calls the twins by itself: one view is enough
            metafunc.parametrize("way", ways)

    @pytest.fixture(autouse=True)
    def _prepare(self, request: pytest.FixtureRequest) -> None:
        self.clock = FakeClock(time.time())
        reason = self.exceptions.get(getattr(request.node, "originalname", ""))
        if reason:
            request.applymarker(pytest.mark.xfail(reason=reason, strict=True))

    @pytest.fixture
    def make(self, way: str, tmp_path: Path) -> Iterator[MakeView]:
        """Makes tiers over one folder, each in the view under test, and closes them in the end."""
        views: list[View] = []

        def make(max_bytes: int | None = None) -> View:
            tier = (
                self.make_tier(tmp_path) if max_bytes is None else self.make_bounded_tier(tmp_path, max_bytes)
            )
            views.append(View(tier, way))
            return views[-1]

        yield make
        for view in views:
            view.dispose()

    @pytest.fixture
    def view(self, make: MakeView) -> View:
        """The tier under test, in the view under test."""
        return make()

    def entry(self, value: Any = b"value", *, life: float | None = 3600.0) -> Entry[Any]:
        """An entry written now that lives for ``life`` seconds (``None``: until evicted)."""
        now = self.clock.time()
        return Entry(value, None if life is None else now + life, created_at=now)
