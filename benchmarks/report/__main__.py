"""The command: ``python -m benchmarks.report FILE…``, from the project's folder."""

from __future__ import annotations

from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

import click

from benchmarks.report import missed, quoted
from benchmarks.report.figures import Figures, Unknown, read
from benchmarks.report.pages import charted, index, page, reached, shown_target

__all__ = ["main", "write"]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--command", metavar="TEXT", help="What was typed to get the figures.")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Write the report there, and leave README and docs alone.",
)
def main(files: Sequence[Path], command: str | None, into: Path | None) -> None:
    """Write the report into docs/benchmarks, and its figures into the pages that quote them.

    A FILE is what a run of the benchmarks left with --benchmark-json, the output of
    "python -m benchmarks.hit_ratio --json", or the figures.json of a report, which is then written anew. What
    several hold is put together; the later has the last word.
    """
    try:
        figures = read(files)
        if command is not None:
            figures.command = command
        if into is None:
            _renew_documents(figures)
        write(figures, into or quoted.REPORT)
    except (Unknown, ValueError) as error:
        raise click.ClickException(str(error)) from None
    for name, case in figures.cases.items():
        for target in case.get("targets", ()):
            holds = "holds " if target["holds"] else "MISSED"
            click.echo(f"{holds}  {name}: {shown_target(case, target)}; reached: {reached(case, target)}")
    click.echo(f"The report is in {into or quoted.REPORT.relative_to(quoted.PROJECT)}")


def write(figures: Figures, folder: Path) -> None:
    """The whole report, in place of the one that was there."""
    from benchmarks.report.charts import chart  # what draws takes a while to import

    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.md"), *folder.glob("*.svg")):
        old.unlink()
    (folder / "figures.json").write_text(figures.as_json())
    for group in figures.groups:
        cases = {name: case for name, case in figures.of(group).items() if charted(case)}
        if cases:
            (folder / f"{group}.svg").write_bytes(chart(group, cases))
        (folder / f"{group}.md").write_text(page(figures, group, f"{group}.svg" if cases else None))
    explained = relpath(quoted.PROJECT / "docs" / "explanation" / "performance.md", folder)
    (folder / "README.md").write_text(index(figures, Path(explained).as_posix()))


def _renew_documents(figures: Figures) -> None:
    """All or, where a name is unknown, none."""
    texts = {path: path.read_text() for path in quoted.documents()}
    for path, text in {path: quoted.renewed(text, figures) for path, text in texts.items()}.items():
        if text != texts[path]:
            path.write_text(text)
        before, after = missed.reasons(texts[path]), missed.reasons(text)
        for case in before.keys() - after:
            click.echo(
                f"{path.name}: {case} misses nothing any more, and is not there; it said: {before[case]}"
            )
        for case in missed.unexplained(text):
            click.echo(f"{path.name}: write there why {case} misses its target", err=True)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.report")
