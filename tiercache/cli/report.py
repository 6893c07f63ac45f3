"""`tiercache report`: what a cache holds, how often it hits, and what it cost and saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from tiercache.cli._context import ANY_PATH, Failed, Settings, command, open_cache
from tiercache.cli._output import note, say, show_json
from tiercache.errors import ConfigError

__all__ = ["report"]

_MOST = 100_000
_POPULAR = 10


@command()
@click.argument("file", required=False, type=ANY_PATH)
@click.option("--html", "page", metavar="PAGE", type=ANY_PATH, help="Write a page with charts to PAGE.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; times are seconds.")
@click.option(
    "--since",
    default="30d",
    show_default=True,
    metavar="DAY",
    help="From when on the ledger is told: a day, or how long ago.",
)
@click.option(
    "--count",
    "most",
    type=click.IntRange(min=0),
    default=_MOST,
    show_default=True,
    metavar="N",
    help="Count about N entries of each tier at most; 0: none.",
)
@click.option(
    "--popular",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=_POPULAR,
    metavar="[N]",
    help=f"Name the N keys that were asked for most often, {_POPULAR} unless said.",
)
@click.pass_obj
def report(
    settings: Settings,
    file: str | None,
    page: str | None,
    as_json: bool,
    since: str,
    most: int,
    popular: int | None,
) -> int:
    """Tell what the cache holds, hits, costs and saves.

    From its tiers, the statistics that the processes of this machine share, and the ledger. FILE is the
    configuration. Exit code 1 if any of these could not be read; what could be is told all the same.
    """
    from tiercache.cli._reporting.gather import gather

    if file is not None and settings.config is not None:
        raise click.UsageError(f"name one configuration: FILE is {file!r}, and --config {settings.config!r}")
    if page is not None and as_json:
        raise click.UsageError("--html or --json, not both")
    with open_cache(settings if file is None else replace(settings, config=file)) as cache:
        try:
            found = gather(cache, since=since, most=most, popular=popular, tell=note)
        except ConfigError as error:
            raise Failed(str(error)) from error
    if as_json:
        from tiercache.cli._reporting.data import as_data

        show_json(as_data(found))
    elif page is not None:
        from tiercache.cli._files import write_whole
        from tiercache.cli._reporting.page import as_html

        write_whole(Path(page), as_html(found))
        say(f"the report is in {page}")
    else:
        from tiercache.cli._reporting.text import show

        show(found)
    return 1 if found.problems else 0
