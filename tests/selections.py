"""How many tests a table of cases is: which of many parameters the usual run tries, and which cases are one
test together, since a test of its own costs several milliseconds beside what it does."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Container, Iterable
from typing import Any

import pytest

__all__ = ["together", "usually"]


def usually(chosen: Container[Any], every: Iterable[Any]) -> list[Any]:
    """``every`` value as a parameter; those that are not ``chosen`` are long tests. One that is a tuple is of
    so many arguments."""
    return [
        pytest.param(
            *(each if isinstance(each, tuple) else (each,)),
            marks=() if each in chosen else pytest.mark.long,
        )
        for each in every
    ]


def together(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Callable[..., None]], Any]:
    """Like ``pytest.mark.parametrize``, as one test: for tables of cases that leave nothing behind and share
    the fixtures. All are tried; those that fail are told together, each with its arguments."""
    several = isinstance(names, tuple)
    table = [
        dict(zip(names if several else (names,), case if several else (case,), strict=True)) for case in cases
    ]
    assert table, "a table without cases would test nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def all_of_them(**fixtures: Any) -> None:
            failures: list[BaseException] = []
            for case in table:
                try:
                    test(**fixtures, **case)
                except (Exception, BaseExceptionGroup, pytest.fail.Exception) as error:  # noqa: BLE001 - all are told
                    error.add_note(f"the case: {case}")
                    failures.append(error)
            if failures:
                raise BaseExceptionGroup(f"{len(failures)} of {len(table)} cases", failures)

        signature = inspect.signature(test)
        rest = [given for name, given in signature.parameters.items() if name not in table[0]]
        all_of_them.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined] - read by pytest
        return all_of_them

    return decorate
