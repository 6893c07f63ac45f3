"""Where somebody may write a secret in a URL, rightly or not: each with one place for it.

It is no port. Nothing listens at these addresses, and none is a name to be looked up.
"""

from __future__ import annotations

__all__ = ["PLACES"]

_REDIS = "redis", "rediss", "redis+cluster", "redis+sentinel"
_SQL = "postgresql", "postgresql+psycopg", "mysql", "sqlite", "oracle"

PLACES = (
    *(
        place.replace("scheme", scheme)
        for scheme in (*_REDIS, *_SQL, "unix", "http", "nonsense")
        for place in (
            "scheme://user:{}@127.0.0.1:1/0",
            "scheme://:{}@127.0.0.1:1/0",
            "scheme://{}@127.0.0.1:1",
            "scheme://user:{}@127.0.0.1:port/0",
            "scheme://user:a@{}@127.0.0.1:1",
            "scheme://user:a/{}@127.0.0.1:1",
            "scheme://user:{}/3@127.0.0.1:1",
            "scheme://user:a?{}@127.0.0.1:1",
            "scheme://user:a#{}@127.0.0.1:1",
            "scheme://user:[{}]@127.0.0.1:1",
            "scheme://user:{}",
            "scheme://:{}",
            "scheme://user:{}/0?db=1",
            "scheme://127.0.0.1:1/0?password={}",
            "scheme://127.0.0.1:1/0?db=0&Password={}&x=1",
            "scheme://127.0.0.1:1/0?passwd={}",
            "scheme://127.0.0.1:1/0?pwd={}",
            "scheme://127.0.0.1:1/0?sslpassword={}",
            "scheme://127.0.0.1:1/0?sentinel_password={}",
            "scheme://127.0.0.1:1/0?token={}",
            "scheme://127.0.0.1:1/0?secret={}",
            "scheme://127.0.0.1:1/0?api_key={}",
            "scheme://127.0.0.1:1/0?%70assword={}",
            "scheme://127.0.0.1:1/0?options=-c%20password%3D{}",
        )
    ),
    "redis://127.0.0.1:1/{}",
    "rediss://127.0.0.1/{}?x=1",
    "redis+cluster://127.0.0.1:1/{}",
    "redis+sentinel://127.0.0.1:1/name/{}",
    "redis://user:5/{}",
    "rediss://:/{}",
    "redis+cluster://:1/{}",
    "redis;//:{}",
    "redis:/:{}",
    "redis:user:{}",
    "user:{}",
    ":{}@127.0.0.1:1",
    "user:{}@127.0.0.1:1",
    "host=h password={}",
    "host=h password='{}' dbname=d",
    "host=h dbname=d password = {}",
    "Server=h;Pwd={};Database=d",
    "sqlite:///s.db?password={}",
    "sqlite:///s.db?mode=ro&passphrase={}",
)
