"""`specbeam explain`: a picture of one answer."""

from __future__ import annotations

import dataclasses
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.asking_options import asking_options, listed, to_request
from specbeam.cli.output import print_json, write_whole

if TYPE_CHECKING:
    from specbeam.client import Recommendation, RecommendOptions

EXAMPLES = """\b
Examples:
  specbeam explain --user ann
  specbeam explain --user ann -k 5 --out ann.html --open
  specbeam explain --items item-7,item-12 --speculation on --max-rows 48 --out miss.svg
  specbeam explain --user ann --mode exact-sampling --seed 7
  specbeam explain --user ann --json | jq '.debug.rounds[].step'

An .html file is one page that needs no other file and no script: the request, the tree level
by level with what became of every drafted prefix, the scores of drafters and target, where
the time went, and the items. An .svg file is the tree alone. With --json nothing is written
unless --out is given.

The server may forbid details (allow_debug); then there is nothing to draw."""

SUFFIXES = (".html", ".svg")
DEFAULT_OUT = Path("explain.html")


@click.command(epilog=EXAMPLES)
@asking_options(speculation="on")
@click.option(
    "--max-rows", type=click.IntRange(0), default=0, help="Tree rows of a pass; 0 = the server's."
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    help=f"Write here, .html or .svg.  [default: {DEFAULT_OUT}]",
)
@click.option("--open", "show", is_flag=True, help="Open the file in a browser.")
@click.option("--json", "as_json", is_flag=True, help="Print the answer with its details as JSON.")
def explain(
    user: str,
    items: str,
    address: str,
    deadline_s: float,
    out: Path | None,
    show: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Draw how one answer came about."""
    if not (user or items):
        raise click.UsageError("whose answer? Give --user or --items")
    out = out or (None if as_json and not show else DEFAULT_OUT)
    if out is not None and out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"--out: {out} ends neither in .html nor in .svg")
    from specbeam.cli.recommend import explain_error
    from specbeam.client import ClientError, SyncRecommendClient

    with SyncRecommendClient(address, timeout_s=deadline_s) as client:
        try:
            answer = client.recommend(user, **_options(items, options))
        except ClientError as error:
            return explain_error(error, address)
    if answer.debug is None or not answer.debug.rounds:
        return _no_details(answer)
    if out is not None:
        _write(answer, user or "inline history", out)
        click.echo(f"{out} written", err=True)
    if as_json:
        print_json(dataclasses.asdict(answer))
    if show and out is not None:
        webbrowser.open(out.resolve().as_uri())
    return exit_codes.OK


def _options(items: str, options: dict[str, Any]) -> RecommendOptions:
    asked = to_request(listed(items), options)
    return {**asked, "max_rows": options["max_rows"], "debug": True}


def _no_details(answer: Recommendation) -> int:
    """Say that there is nothing to draw; return the exit code."""
    if answer.debug is None:
        problem = "the server sends no details: SPECBEAM_ORCHESTRATOR_ALLOW_DEBUG is off there"
    else:
        problem = "the server sends no rounds among its details: it is older than this command"
    click.echo(f"Error: {problem}", err=True)
    return exit_codes.FAILURE


def _write(answer: Recommendation, name: str, out: Path) -> None:
    """Write the picture; the file appears whole or not at all."""
    from specbeam.pictures.page import explain_page, explain_svg

    draw = explain_svg if out.suffix.lower() == ".svg" else explain_page
    write_whole(draw(answer, f"Why these items? {name}"), out)
