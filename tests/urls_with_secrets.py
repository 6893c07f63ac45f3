"""Where somebody may write a secret in a URL, rightly or not: each with one place for it. It is no port."""

from __future__ import annotations

__all__ = ["PLACES"]

_REDIS = "redis", "rediss", "redis+cluster", "redis+sentinel"
_SQL = "postgresql", "postgresql+psycopg", "mysql", "sqlite", "oracle"

PLACES = (
    *(
        place.replace("scheme", scheme)
        for scheme in (*_REDIS, *_SQL, "unix", "http", "nonsense")
        for place in (
            "scheme://user:{}@host/0",
            "scheme://:{}@host:1/0",
            "scheme://{}@host",
            "scheme://user:{}@host:port/0",
            "scheme://user:a@{}@host",
            "scheme://user:a/{}@host:1",
            "scheme://user:{}/3@host",
            "scheme://user:a?{}@host",
            "scheme://user:a#{}@host",
            "scheme://user:[{}]@host",
            "scheme://user:{}",
            "scheme://:{}",
            "scheme://user:{}/0?db=1",
            "scheme://host:1/0?password={}",
            "scheme://host:1/0?db=0&Password={}&x=1",
            "scheme://host/0?passwd={}",
            "scheme://host/0?pwd={}",
            "scheme://host/0?sslpassword={}",
            "scheme://host/0?sentinel_password={}",
            "scheme://host/0?token={}",
            "scheme://host/0?secret={}",
            "scheme://host/0?api_key={}",
            "scheme://host/0?%70assword={}",
            "scheme://host/0?options=-c%20password%3D{}",
        )
    ),
    "redis:/:{}",
    "redis:user:{}",
    "user:{}",
    ":{}@host",
    "user:{}@host:1",
    "host=h password={}",
    "host=h password='{}' dbname=d",
    "host=h dbname=d password = {}",
    "Server=h;Pwd={};Database=d",
    "sqlite:///s.db?password={}",
    "sqlite:///s.db?mode=ro&passphrase={}",
)
