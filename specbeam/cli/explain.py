"""`specbeam explain`: a picture of one answer."""

from __future__ import annotations

import dataclasses
import os
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json

if TYPE_CHECKING:
    from specbeam.client import Recommendation, RecommendOptions

EXAMPLES = """\b
Examples:
  specbeam explain --user ann
  specbeam explain --user ann -k 5 --out ann.html --open
  specbeam explain --items item-7,item-12 --speculation on --max-rows 48 --out miss.svg
  specbeam explain --user ann --json | jq '.debug.rounds[].step'

An .html file is one page that needs no other file and no script: the request, the tree level
by level with what became of every drafted prefix, the scores of drafters and target, where
the time went, and the items. An .svg file is the tree alone. With --json nothing is written
unless --out is given.

The server may forbid details (allow_debug); then there is nothing to draw."""

SUFFIXES = (".html", ".svg")
DEFAULT_OUT = Path("explain.html")


@click.command(epilog=EXAMPLES)
@click.option("--user", default="", help="Whose stored history to use.")
@click.option("--items", default="", help="History to use instead: item ids, oldest first.")
@click.option(
    "-k",
    "--num-items",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="Items to return.",
)
@click.option(
    "--beam-width",
    type=click.IntRange(0),
    default=0,
    help="Beams of the search; 0 = the server's choice.",
)
@click.option(
    "--max-rows", type=click.IntRange(0), default=0, help="Tree rows of a pass; 0 = the server's."
)
@click.option(
    "--speculation", type=click.Choice(["auto", "on", "off"]), default="on", show_default=True
)
@click.option("--bundle", default="", help="Bundle to answer from.")
@click.option("--address", default="127.0.0.1:50051", show_default=True, help="The orchestrator.")
@click.option(
    "--deadline-s",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Deadline of the call.",
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
    from specbeam.client import Interaction, RecommendOptions

    history = [item.strip() for item in items.split(",") if item.strip()]
    return RecommendOptions(
        events=[Interaction(item) for item in history],
        num_items=options["num_items"],
        beam_width=options["beam_width"],
        max_rows=options["max_rows"],
        speculation=options["speculation"],
        bundle=options["bundle"],
        include_metadata=True,
        debug=True,
    )


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


def write_whole(text: str, path: Path) -> None:
    """Write a file that appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)
