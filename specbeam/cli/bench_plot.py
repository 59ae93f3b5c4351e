"""`specbeam bench plot`: a picture of a result file."""

from __future__ import annotations

import json
from pathlib import Path

import click

from specbeam.cli import exit_codes

EXAMPLES = """
\b
Examples:
  specbeam bench plot benchmarks/results/drafters-beauty.json
  specbeam bench plot drafters-beauty.json --metric passes --out passes.svg
  specbeam bench plot drafters-beauty.json --way model --way 'model + pool + counts'
"""


@click.command(epilog=EXAMPLES)
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write here, .svg.  [default: beside the file]",
)
@click.option("--metric", type=click.Choice(["ms", "passes"]), default="ms", show_default=True)
@click.option("--way", "ways", multiple=True, metavar="WAY", help="Draw only this; repeatable.")
def plot(file: Path, out: Path | None, metric: str, ways: tuple[str, ...]) -> int:
    """Draw what searches cost: milliseconds or passes against rows, a panel per K.

    FILE is a result of `specbeam bench` whose cells have K, rows and milliseconds.
    """
    from specbeam.cli.output import write_whole
    from specbeam.pictures.cells import UnknownCellsError
    from specbeam.pictures.pareto import pareto_picture

    out = out or file.with_suffix(".svg")
    if out.suffix.lower() != ".svg":
        raise click.UsageError(f"--out: {out} does not end in .svg")
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    try:
        picture = pareto_picture(result, metric=metric, ways=ways, name=file.name)
    except UnknownCellsError as error:
        raise ValueError(f"{file}: {error}") from error
    write_whole(picture, out)
    click.echo(f"{out} written", err=True)
    return exit_codes.OK
