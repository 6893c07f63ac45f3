"""What is hidden of a URL or connection string, and of what others say about one."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selections import together
from urls_with_secrets import PLACES

from tiercache._masking import blot, holds_secret, mask, mask_place


@together(
    ("url", "masked"),
    [
        ("redis://me:sesame@h:1/0", "redis://me:***@h:1/0"),
        ("redis://h/0?pasword=sesame&db=1", "redis://h/0?pasword=***&db=1"),
        ("redis://:sesame@h", "redis://:***@h"),
        ("redis://sesame@h", "redis://***@h"),
        ("redis+cluster://u:a@b:c/d?e@h1:1,h2:2", "redis+cluster://u:***@h1:1,h2:2"),
        ("redis://u:sesame@h:post/0", "redis://u:***@h:***"),
        ("redis://u:sesame", "redis://u:***"),
        ("redis://u:12345678", "redis://u:***"),
        ("redis://u:65536", "redis://u:***"),
        ("redis://h1:1,u:ses/ame", "redis://h1:1,u:***"),
        ("redis://u:5/sesame", "redis://u:5/***"),
        ("redis://:/sesame", "redis://:/***"),
        ("redis://h/sesame", "redis://h/***"),
        ("rediss://h/123456?db=1", "rediss://h/***"),
        ("redis+cluster://h1:1,h2:2/sesame", "redis+cluster://h1:1,h2:2/***"),
        ("redis+sentinel://h:1,h/name/sesame?x=1", "redis+sentinel://h:1,h/name/***"),
        ("redis:/:sesame", "redis:***"),
        ("redis;//:sesame", "redis;//:***"),
        ("u:sesame", "u:***"),
        ("redis://h/0#sesame", "redis://h/0#***"),
        ("redis://h?password=ses@me&db=1", "redis://***&db=1"),
        ("redis://h?password=ses&ame&db=1", "redis://h?password=***&db=1"),
        ("redis://h?%70assword=sesame&db=1", "redis://h?%70assword=***&db=1"),
        ("sqlite:///s.db?password=sesame", "sqlite:///s.db?password=***"),
        ("postgresql://h/d?sslpassword=a&sslkey=b&pw=c&x=d", "postgresql://h/d?sslpassword=***&sslkey=***&pw=***&x=d"),
        ("postgresql://h/d?options=-c%20pwd%3Dsesame&x=1", "postgresql://h/d?options=***&x=1"),
        ("host=h password=sesame dbname=d", "host=h password=*** dbname=d"),
        ("host=h password = 'ses ame=' dbname=d", "host=h password = '***' dbname=d"),
        ("Server=h;Pwd=ses ame;Database=d", "Server=h;Pwd=***;Database=d"),
    ],
)  # fmt: skip
def test_what_is_hidden(url, masked):
    assert mask(url) == masked
    assert holds_secret(url) is (url != "redis://sesame@h")  # which may be the name of a user


@together(
    "url",
    [
        "", "12h", "10:30", "10:30:00", "C:/dir/a", "C:\\dir", "redis://h:port/0", "redis://${HOST}:${PORT:-1}/0",
        "http://h/?max_keys=5", "redis://h", "redis://h:6379/0?db=1", "redis://[::1]:7000/1", "redis://[fe80::1%eth0]",
        "redis+cluster://h1:1,[::1]:2,h3", "redis+sentinel://h:1,h/name/0", "localhost:6379/0", "h1:1,h2:2",
        "redis://h/15", "postgresql://h:1/users", "redis://h:1/${DB}", "redis://h/${DB:-0}", "redis+sentinel://h/s?db=1",
        "redis+cluster://h:1,h:2",
        "redis://${HOST}:${PORT}/0", "redis://u:@h", "unix:///run/a@b:c.sock", "sqlite:///a@b:c#d.db", "sqlite://",
        "sqlite+pysqlite:////home/a@b.db?mode=ro", "disk://~/a@b:c?max_bytes=1GiB", "postgresql://h/d?keepalives=1",
    ],
)  # fmt: skip
def test_what_is_shown(url):
    assert mask(url) == url
    assert not holds_secret(url)


@together(
    ("given", "shown"),
    [
        ("", ""), ("h:6379/0", "h:***"), ("localhost:6379/0", "localhost:6379/0"), ("1.0.0.1:1", "1.0.0.1:1"),
        ("user:12345", "user:***"), ("${URL}", "${URL}"), ("redis://:sesame@h", "redis://:***@h"),
        ("sesame", "***"), ("ses_a-me", "***"), ("/sesame=", "***"), ("u:sesame", "***"), ("//sesame", "***"),
        ("C:/sesame=", "***"), ("ses.a-me:x", "***"), ("ses.ame", "***"), ("ses.a.me", "***"),
        ("S3s.4me", "***"), ("1.2.sesame.3", "***"), ("redishunter2", "***"),
        ("12345678", "***"), ("10:30:00", "***"), ("${URL:-sesame}", "***"),
        ("/var/cache/app-2", "/var/cache/app-2"), ("./a_b.c", "./a_b.c"), ("../cache", "../cache"),
        ("~/c", "~/c"), ("C:\\cache", "C:\\cache"), ("C:/cache", "C:/cache"), ("/sesame\n", "***"),
        ("/aB3dEfGh1jKlMn0pQrStUv", "***"), ("/a/B3dEfGh1jKlMn0pQrStUv/c", "***"), ("/ses@me", "***"),
        (f"/a/{'0f' * 16}", "***"), (f"/a/{'0F' * 16}", "***"), ("/A/deadbeef01", "/A/deadbeef01"),
        ("/abcdefghijklmnopqrst", "/abcdefghijklmnopqrst"), ("/abcdefghijklmnopqrstu", "***"),
        ("/s:esame", "***"), ("/s3same", "***"), ("/./s3same/", "***"), ("/sesaME", "***"),
        ("/Sesam/a2", "/Sesam/a2"), ("/a\\b", "***"), ("~", "~"), ("~sesame", "***"), ("~sesame/a", "***"),
        ("~/s3same", "***"), ("C:/s3same", "***"), ("/wJalrXUtnFEMI/K7MDENG/bPxRfiCYEX", "***"),
        ("/", "/"), ("/a//b/", "/a//b/"), ("~/.cache/b", "~/.cache/b"), ("localhost", "localhost"),
        ("cache.internal", "cache.internal"), ("10.0.0.1", "10.0.0.1"), ("h1.example.com", "h1.example.com"),
        ("nas.home", "nas.home"),
        ("aB3dEfGh1jKlMn0pQrStUv.x", "***"), ("a.b\n", "***"), ("redis", "redis"), ("redis\n", "***"),
        ("redis:", "redis:"), ("redis:/localhost", "redis:/localhost"), ("disk:/var/x", "disk:/var/x"),
        ("redis:localhost:6379", "redis:localhost:6379"), ("redis:sesame", "redis:***"),
        ("redis:ses.ame", "redis:***"), ("redis:/:sesame", "redis:***"), ("disk:/a b", "disk:***"),
    ],
)  # fmt: skip
def test_what_stands_in_the_place_of_a_url_may_be_a_password_alone(given, shown):
    assert mask_place(given) == shown


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(PLACES))
def test_no_place_of_a_secret_is_shown(more, place):
    """Quoted it may hold anything; the rest of the URL stays."""
    secret = f"\N{SNOWMAN}{more}"
    quoted = quote(secret, safe="")
    shown = mask(place.format(quoted))
    assert quoted not in shown
    assert shown == mask(place.format("other"))
    told = blot(f"no {secret!r} here, nor <{place.format(quoted)}>, nor {secret}", place.format(quoted))
    if len(more) > 3:
        assert secret not in told
        assert quoted not in told


@given(
    st.text(),
    st.text(),
    st.sampled_from(["redis://user:{}@h", "mysql://:{}@host", "redis://u:x{}", "u:{}@h"]),
)
def test_a_password_that_nobody_quoted_is_not_shown_either(before, after, place):
    if place.endswith("{}"):  # an "@" would be the one before the host
        before, after = before.replace("@", ""), after.replace("@", "")
    assert "\N{SNOWMAN}" not in mask(place.format(f"{before}\N{SNOWMAN}{after}"))


@given(st.text())
def test_any_text_has_an_end_and_what_is_hidden_once_is_hidden(text):
    assert mask(mask(text)) == mask(text)
    holds_secret(text)
    blot(text, text)


@pytest.mark.parametrize("text", ["a=", "a= ", "password=", "a:", "@", "&", " ", "a", "'", "://", "%3d"])
def test_a_long_text_takes_no_long_time(text):
    """Where each part were held against each other, this would take minutes."""
    assert len(mask(text * 100_000)) <= len(text) * 100_000


@pytest.mark.parametrize(
    ("said", "given", "told"),
    [
        ("'hunter2' is no port", "redis://:hunter2/3@h", "'***' is no port"),
        ("'HUNTER2' is no port", "redis://:hunter2@h", "'***' is no port"),
        ("no 12345678", {"password": 12345678}, "no ***"),
        ("no 0.5", {"auth": {"a": [0.5]}}, "no ***"),
        ("no host=h password=hunter2", {"dsn": "host=h password=hunter2"}, "no host=h password=***"),
        ("no hunter2", {"dsn": "user:hunter2"}, "no ***"),
        ("no hunter2", {"form": "user:hunter2"}, "no hunter2"),
        ("no b'\\xffx'", {"key": b"\xffx"}, "no b'***'"),
        ("it's \"it's me\"", {"secret": "it's me"}, 'it\'s "***"'),
        ("no 'a\\\\b\\nc'", {"secret": "a\\b\nc"}, "no '***'"),
        ("one is one", {"secret": True, "times": 1}, "one is one"),
        ("a port is no number", "redis://h:port", "a port is no number"),
    ],
)
def test_what_others_say(said, given, told):
    assert blot(said, given) == told


def test_what_is_no_secret_of_a_url_is_handed_on():
    said = "the host h has no database 0 on port 6379; give it one"
    assert blot(said, "redis://u:hunter2@h:6379/0?db=1") == said
    assert re.sub(r"\W", "", blot("h", "redis://hhh@h")) == "h"
