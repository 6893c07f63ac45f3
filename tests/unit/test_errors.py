"""The error tree: what a caller may catch, and what the messages say."""

from __future__ import annotations

import inspect
import pickle

import pytest

from tiercache import errors


def test_everything_is_one_tree():
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), errors.TierCacheError)
    raised = {
        name for name, item in vars(errors).items() if inspect.isclass(item) and issubclass(item, Exception)
    }
    assert raised == set(errors.__all__)


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (errors.ConfigError, ValueError),
        (errors.MissingPackage, ImportError),
        (errors.MissingPackage, errors.ConfigError),
        (errors.TierTimeout, errors.TierError),
        (errors.TierUnavailable, errors.TierError),
        (errors.TierFull, errors.TierUnavailable),
        (errors.EntryRejected, errors.TierError),
    ],
)
def test_errors_are_what_callers_catch(error, also):
    assert issubclass(error, also)


def test_a_missing_package_says_what_to_type():
    error = errors.MissingPackage("redis", "redis", "RedisTier")
    assert str(error) == (
        "RedisTier needs the package 'redis', which is not installed: "
        'pip install "tiercache-framework[redis]"'
    )
    assert (error.package, error.extra) == ("redis", "redis")


def test_a_tier_error_names_its_tier():
    assert errors.TierTimeout("no answer after 0.5 s", tier="redis").tier == "redis"
    assert errors.TierUnavailable("refused").tier is None


def test_rejected_entries_are_named_but_not_printed():
    error = errors.EntryRejected(
        (key for key in ("secret/a", "secret/b")), "larger than 1 KiB", tier="memory"
    )
    assert error.keys == ("secret/a", "secret/b")
    assert error.tier == "memory"
    assert "2 entries rejected: larger than 1 KiB" in str(error)
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        errors.EntryRejected(["k"], "too large", tier="disk"),
        errors.TierTimeout("no answer", tier="redis"),
        errors.MissingPackage("redis", "redis", "RedisTier"),
        errors.WriteError("no tier"),
    ],
)
def test_errors_cross_processes(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - what multiprocessing does
    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
