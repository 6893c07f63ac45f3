"""Durations and sizes, as users write them and as they must not."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selections import together

from tiercache.errors import ConfigError
from tiercache.units import (
    LONGEST_WAIT,
    duration,
    optional_duration,
    optional_size,
    optional_wait,
    size,
    wait,
)


@together(
    ("value", "seconds"),
    [
        (300, 300.0),
        (0.25, 0.25),
        (timedelta(minutes=2, milliseconds=500), 120.5),
        ("250ms", 0.25),
        ("5m", 300.0),
        ("5min", 300.0),
        ("1.5h", 5400.0),
        ("30d", 30 * 86400.0),
        ("2w", 14 * 86400.0),
        ("10 s", 10.0),
        (" 7 ", 7.0),
        ("5M", 300.0),
    ],
)
def test_durations(value, seconds):
    found = duration(value, name="ttl")
    assert found == seconds
    assert type(found) is float


@together(
    "value",
    [
        -1,
        -0.001,
        0,
        0.0,
        "0s",
        timedelta(0),
        timedelta(seconds=-1),
        float("nan"),
        float("inf"),
        float("-inf"),
        10**400,
        "9" * 400,
    ],
)
def test_durations_that_no_entry_can_have(value):
    with pytest.raises(ConfigError, match=r"^ttl: .* is not allowed; it must be finite and more than zero"):
        duration(value, name="ttl")


@together(
    "value",
    [
        "",
        "m",
        "5 parsecs",
        "5 minutes",
        "-5m",
        "5m 3s",
        "1h30m",
        "1y",
        "1e3",
        "\u0665m",
        "five",
        "5.m",
        "nan",
    ],
)
def test_durations_that_cannot_be_read(value):
    with pytest.raises(ConfigError, match=r'^jitter: .* cannot be read; write .* "5m"') as told:
        duration(value, name="jitter", zero=True)
    assert "one unit" in str(told.value)
    assert str(told.value).endswith("(units: ms, s, m, min, h, d, w)")


@together("value", [True, False, None, b"5m", [5], 5j])
def test_what_is_no_duration(value):
    with pytest.raises(ConfigError, match=r"^ttl: .* is no duration; give seconds, a timedelta"):
        duration(value, name="ttl")


def test_zero_is_allowed_where_it_means_off():
    assert duration(0, name="jitter", zero=True) == 0.0
    assert duration("0ms", name="jitter", zero=True) == 0.0
    with pytest.raises(ConfigError, match="zero or more"):
        duration(-1, name="jitter", zero=True)


@together(
    ("value", "count"),
    [
        (1, 1),
        (10**15, 10**15),
        ("1", 1),
        ("9" * 30, int(float("9" * 30))),
        ("0.001KB", 1),
        ("64KiB", 65536),
        ("256MiB", 2**28),
        ("10GB", 10**10),
        ("1.5 KiB", 1536),
        ("2tib", 2**41),
        ("100b", 100),
    ],
)
def test_sizes(value, count):
    found = size(value, name="max_bytes")
    assert found == count
    assert type(found) is int


@together("value", [0, -1, "0", "0.4B", "0KiB"])
def test_sizes_that_hold_nothing(value):
    with pytest.raises(ConfigError, match=r"^max_bytes: .* must be at least one byte"):
        size(value, name="max_bytes")


@together("value", ["", "MiB", "10 potatoes", "-1MiB", "1_000", "0x10", "10GiBs", "1e6", "inf", "nan", "64M"])
def test_sizes_that_cannot_be_read(value):
    with pytest.raises(ConfigError, match=r'^max_bytes: .* cannot be read; write .* "256MiB"') as told:
        size(value, name="max_bytes")
    assert str(told.value).endswith("(units: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB)")


@together("value", [True, 1.5, float("nan"), None, b"1KiB", timedelta(1)])
def test_what_is_no_size(value):
    with pytest.raises(ConfigError, match=r'^max_bytes: .* is no size; give bytes or text such as "256MiB"'):
        size(value, name="max_bytes")


def test_a_size_too_large_to_be_true_is_an_error_of_ours():
    for digits in (31, 400):
        with pytest.raises(ConfigError, match=rf"^max_bytes: a number of {digits} digits .* must be finite"):
            size("9" * digits + "B", name="max_bytes")


def test_a_wait_has_an_end():
    """Which is no more than the servers' clocks and the threads of Python can count."""
    for longest in (LONGEST_WAIT, "24d", timedelta(days=24)):
        assert wait(longest, name="deadline") == LONGEST_WAIT < threading.TIMEOUT_MAX
    assert LONGEST_WAIT * 1000 < 2**31
    for beyond in (1e300, "25d", 2_073_600.1, timedelta.max):
        with pytest.raises(ConfigError, match=r"^deadline: .* is not allowed; it must be 24 days at most$"):
            wait(beyond, name="deadline")
    with pytest.raises(ConfigError, match=r"^deadline: 0 is not allowed"):
        wait(0, name="deadline")
    assert optional_wait(None, name="deadline") is None
    assert optional_wait("1s", name="deadline") == 1.0


def test_none_passes_through():
    assert optional_duration(None, name="ttl") is None
    assert optional_size(None, name="max_bytes") is None
    assert optional_duration("1s", name="ttl") == 1.0
    assert optional_size("1KB", name="max_bytes") == 1000
    with pytest.raises(ConfigError):
        optional_duration(0, name="ttl")


@given(st.text(max_size=12) | st.from_regex(r"[0-9.]{1,6} ?[a-zA-Z]{0,3}", fullmatch=True))
def test_any_text_is_a_positive_number_or_a_config_error(text):
    for read in (duration, size):
        with suppress(ConfigError):
            assert read(text, name="option") > 0
