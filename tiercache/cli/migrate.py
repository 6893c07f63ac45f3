"""`tiercache migrate`: what LangChain's stores and caches hold, into a cache."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from tiercache._masking import blot, mask
from tiercache._words import keys
from tiercache.chain import TieredCache
from tiercache.cli._context import Failed, Settings, group, in_namespace, open_cache
from tiercache.cli._interrupts import ending_soon
from tiercache.cli._output import note, say, show_json
from tiercache.config._variables import VariableError, expand
from tiercache.errors import ConfigError, LoadError, WriteError

if TYPE_CHECKING:
    from tiercache.integrations.langchain.migrate import MigrationReport

__all__ = ["migrate"]

_ENCODER = re.compile(r'key_encoder="(\w+)"')
#: What the drivers of the sources raise, which are imported once a source is opened.
_DRIVERS = {"redis": "RedisError", "sqlalchemy.exc": "SQLAlchemyError", "sqlite3": "Error"}
_ENCODERS = ("sha1", "blake2b", "sha256", "sha512")


@group()
def migrate() -> None:
    """Copy what a store or cache of LangChain holds.

    A source is only read. What the cache has already it keeps, so that a run which was interrupted goes on
    when it is started again.
    """


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


_as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
#: What the commands have in common whose source is a store of bytes.
_into = _options(
    click.option(
        "--as",
        "form",
        type=click.Choice(["bytes", "vectors", "embeddings"]),
        default="bytes",
        show_default=True,
        help="For TieredByteStore, EmbeddingStore or CachedEmbeddings.",
    ),
    click.option(
        "--model", metavar="NAME", help="Of vectors and embeddings: their namespace= in the program."
    ),
    click.option(
        "--key-encoder",
        type=click.Choice(_ENCODERS),
        help="Of vectors and embeddings: their key_encoder= in the program.",
    ),
    click.option("--queries", is_flag=True, help="Of embeddings: these are of queries, not of documents."),
    click.option(
        "--prefix", default="", metavar="TEXT", help="Keys without it are skipped; vectors lose it."
    ),
    click.option(
        "--any-key", is_flag=True, help="Take vectors whatever follows the prefix, not digests alone."
    ),
    in_namespace,
    _as_json,
)


@migrate.command("langchain-files")
@click.argument("folder")
@_into
@click.pass_obj
@ending_soon()
def langchain_files(
    settings: Settings, /, folder: str, namespace: tuple[str, ...], as_json: bool, **options: Any
) -> int:
    """Copy the files of a LocalFileStore in FOLDER."""
    from tiercache.integrations.langchain.migrate import from_local_files

    with _target(settings, namespace, options) as (target, more):
        return _tell(from_local_files(folder, target, **more), as_json=as_json)


@migrate.command("langchain-redis")
@click.argument("url")
@click.option("--store-namespace", metavar="NAME", help="The RedisStore's own namespace=, if it had one.")
@_into
@click.pass_obj
@ending_soon()
def langchain_redis(
    settings: Settings,
    /,
    url: str,
    store_namespace: str | None,
    namespace: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Copy the keys of a RedisStore at URL.

    '${NAME}' in it stands for an environment variable: what a command's arguments say, such as a password,
    other users of the machine can read.
    """
    from tiercache.integrations.langchain.migrate import from_redis

    url = _expanded(url)
    with _target(settings, namespace, options) as (target, more), _reading(f"RedisStore {mask(url)}", url):
        report = from_redis(url, target, namespace=store_namespace, **more)
    return _tell(report, as_json=as_json)


@migrate.command("langchain-sql")
@click.argument("url")
@click.option("--store-namespace", metavar="NAME", required=True, help="The SQLStore's own namespace=.")
@_into
@click.pass_obj
@ending_soon()
def langchain_sql(
    settings: Settings,
    /,
    url: str,
    store_namespace: str,
    namespace: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> int:
    """Copy the rows of an SQLStore at URL.

    '${NAME}' in it stands for an environment variable, as for `langchain-redis`.
    """
    from tiercache.integrations.langchain.migrate import from_sql

    url = _expanded(url)
    with _target(settings, namespace, options) as (target, more), _reading(f"SQLStore {mask(url)}", url):
        report = from_sql(url, target, namespace=store_namespace, **more)
    return _tell(report, as_json=as_json)


@migrate.command("langchain-sqlite-llm")
@click.argument("file")
@click.option(
    "--llm-namespace", default="llm", show_default=True, metavar="NAME", help="The LLMCache's namespace=."
)
@in_namespace
@_as_json
@click.pass_obj
@ending_soon()
def langchain_sqlite_llm(
    settings: Settings, file: str, llm_namespace: str, namespace: tuple[str, ...], as_json: bool
) -> int:
    """Copy the answers in the FILE of an SQLiteCache, for LLMCache."""
    from tiercache.integrations.langchain import LLMCache
    from tiercache.integrations.langchain.migrate import from_sqlite_cache

    with open_cache(settings, namespace, writes=True) as cache, _well_told(), _reading(f"SQLiteCache {file}"):
        target = LLMCache(cache, namespace=llm_namespace)
        return _tell(from_sqlite_cache(file, target, progress=sys.stderr.isatty()), as_json=as_json)


@contextmanager
def _target(
    settings: Settings, namespace: tuple[str, ...], options: dict[str, Any]
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """What takes the entries, and the options of the function that copies them."""
    form, model, key_encoder = options["form"], options["model"], options["key_encoder"]
    if form == "bytes" and (model or key_encoder):
        raise click.UsageError("--model and --key-encoder are for --as vectors and --as embeddings")
    if form != "bytes" and not model:
        raise click.UsageError(f"--as {form} needs --model, the namespace= that the program gives it")
    if options["queries"] and form != "embeddings":
        raise click.UsageError("--queries is for --as embeddings, which keep them apart from documents")
    more = {name: options[name] for name in ("prefix", "any_key", "queries")}
    with open_cache(settings, namespace, writes=True) as cache, _well_told():
        yield _taker(cache, form, model, key_encoder), {**more, "progress": sys.stderr.isatty()}


def _taker(cache: TieredCache[Any], form: str, model: str, key_encoder: Any) -> Any:
    from tiercache.integrations.langchain import CachedEmbeddings, EmbeddingStore, TieredByteStore

    if form == "bytes":
        return TieredByteStore(cache)
    if form == "vectors":
        return EmbeddingStore(cache, namespace=model, key_encoder=key_encoder)
    return CachedEmbeddings(_NoModel(), cache, namespace=model, key_encoder=key_encoder)


class _NoModel:
    """Stands where a program has its model, which copying never asks."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise LoadError(f"there is no model in a shell to embed {len(texts)} texts")

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def _expanded(url: str) -> str:
    try:
        return expand(url)
    except VariableError as error:
        raise click.UsageError(f"URL: {error}") from None


@contextmanager
def _well_told() -> Iterator[None]:
    """What is wrong with the source, or with the cache as a target, is no wrong flag."""
    try:
        yield
    except (ConfigError, WriteError) as error:
        raise Failed(str(error)) from error


@contextmanager
def _reading(store: str, url: str = "") -> Iterator[None]:
    """What a driver says of a server that is down, or of a damaged file, is told with the ``store`` that it
    speaks of and does not know, and without what is secret in its ``url``. It is no word about the cache,
    which tells by itself what its tiers raise."""
    try:
        yield
    except Exception as error:
        kinds = [getattr(sys.modules[name], kind) for name, kind in _DRIVERS.items() if name in sys.modules]
        if not isinstance(error, tuple(kinds)):
            raise
        said = str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
        raise Failed(f"{store} cannot be read: {blot(said, url)}") from error


def _tell(report: MigrationReport, *, as_json: bool) -> int:
    """The exit code: 1 if the cache lacks something that was asked for."""
    from tiercache.integrations.langchain.migrate._report import OTHER_PREFIX

    skipped = [replace(item, reason=_for_a_shell(item.reason)) for item in report.skipped]
    report = replace(report, skipped=tuple(skipped))
    if as_json:
        show_json(report.as_dict())
    else:
        say(str(report))
    left_out = sum(item.count for item in skipped if item.reason != OTHER_PREFIX)
    if left_out:
        note(f"{keys(left_out)} skipped, for the reasons above")
    if report.evicted:
        note("the lowest tier is too small for all of them")
    return 1 if left_out or report.evicted else 0


def _for_a_shell(reason: str) -> str:
    """``reason`` with the flags for the arguments of functions."""
    return _ENCODER.sub(r"--key-encoder \1", reason.replace("any_key=True", "--any-key"))
