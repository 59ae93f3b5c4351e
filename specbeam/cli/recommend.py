"""`specbeam recommend`: ask a running orchestrator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.asking_options import asking_options, listed, to_request
from specbeam.cli.filter_options import Filters, read_filters, read_lines
from specbeam.cli.output import print_json, print_table
from specbeam.cli.recommend_stream import event_line, print_arrival, print_news

if TYPE_CHECKING:
    from specbeam.client import Recommendation, RecommendOptions

EXAMPLES = """\b
Examples:
  specbeam recommend --user ann -k 5
  specbeam recommend --items item-7,item-12 --speculation on
  specbeam recommend --user ann --require-tag in-stock --require-tag 'red|blue'
  specbeam recommend --user ann --created-after 2026-11-01 --exclude item-7
  specbeam recommend --user ann --allow-file campaign.txt --json
  specbeam recommend --user ann --stream
  specbeam recommend --user ann --mode exact-sampling --temperature 1.5 --seed 7
  specbeam recommend --batch users.txt --json > answers.jsonl

Filters narrow one another: an item is returned when it passes all that are given. A tag
requirement is one tag, or several with | between them of which one is enough.

A batch file has one user id a line, or one JSON object a line such as
{"user_id": "ann"} or {"items": ["item-7", "item-12"]}. With --json each answer carries
the number of its line; a line that fails is told on stderr."""


@click.command(epilog=EXAMPLES)
@asking_options(speculation="auto")
@click.option("--batch", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--include-history", is_flag=True, help="Also return items of the history.")
@click.option("--exclude", multiple=True, metavar="ITEM", help="Leave an item out; repeatable.")
@click.option("--allow", multiple=True, metavar="ITEM", help="Return only such items; repeatable.")
@click.option(
    "--allow-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Return only the items of a file, one id a line.",
)
@click.option(
    "--require-tag",
    multiple=True,
    metavar="TAG[|TAG...]",
    help="Return only items with this tag, or one of these; repeatable.",
)
@click.option(
    "--created-after",
    metavar="TIME",
    help="Return only items made then or later: ISO 8601 (UTC unless it says otherwise), or "
    "milliseconds since 1970.",
)
@click.option("--stream", is_flag=True, help="Print every level as it is verified.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print JSON; one line per answer in a batch, per event in a stream.",
)
def recommend(
    user: str,
    items: str,
    batch: Path | None,
    address: str,
    stream: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Print the best items for a user or a history, and what it took."""
    if batch is not None and (user or items):
        raise click.UsageError("--batch does not go with --user or --items")
    if batch is not None and stream:
        raise click.UsageError("--batch does not go with --stream")
    from specbeam.client import ClientError, SyncRecommendClient

    filters = read_filters(options)
    timeout_s = options.pop("deadline_s")
    with SyncRecommendClient(address, timeout_s=timeout_s) as client:
        if batch is not None:
            return _ask_all(client, batch, options, filters, as_json)
        asked = _options(listed(items), options, filters)
        try:
            if stream:
                return _follow(client.stream_recommend(user, **asked), user, as_json)
            answer = client.recommend(user, **asked)
        except ClientError as error:
            return explain_error(error, address)
    if as_json:
        print_json(_to_json(answer, filters))
    else:
        print_items(answer, user or "inline history")
    return exit_codes.OK


def _follow(events: Any, user: str, as_json: bool) -> int:
    """Print every event of a stream as it comes."""
    from specbeam.client import Recommendation

    for event in events:
        if as_json:
            click.echo(event_line(event))
        elif isinstance(event, Recommendation):
            print_arrival(event)
            print_items(event, user or "inline history")
        else:
            print_news(event)
    return exit_codes.OK


def _ask_all(
    client: Any, batch: Path, options: dict[str, Any], filters: Filters, as_json: bool
) -> int:
    """Ask for each line of a batch; a line that fails does not stop the others."""
    from specbeam.client import ClientError

    failures = 0
    for number, text in enumerate(read_lines(batch), start=1):
        if not text:
            continue
        try:
            user, items = _parse_line(text)
            answer = client.recommend(user, **_options(items, options, filters))
        except (ClientError, ValueError) as error:
            failures += 1
            click.echo(f"{batch}, line {number}: {error}", err=True)
            continue
        if as_json:
            click.echo(json.dumps({"line": number, **_to_json(answer, filters)}))
        else:
            print_items(answer, user or "inline history")
    return exit_codes.FAILURE if failures else exit_codes.OK


def _to_json(answer: Recommendation, filters: Filters) -> dict[str, Any]:
    return {**dataclasses.asdict(answer), "filter": dataclasses.asdict(filters)}


def _options(items: Sequence[str], options: dict[str, Any], filters: Filters) -> RecommendOptions:
    return {
        **to_request(items, options),
        "exclude_history": filters.exclude_history,
        "exclude_item_ids": filters.exclude_item_ids,
        "allow_item_ids": filters.allow_item_ids,
        "required_tags": filters.required_tags,
        "created_after": filters.created_after_ms,
    }


def _parse_line(text: str) -> tuple[str, list[str]]:
    """Return the user and the history of a line that is not empty.

    Raises:
        ValueError: It is neither a user id nor an object with known keys.
    """
    if not text.startswith("{"):
        return text, []
    entry = json.loads(text)
    unknown = sorted(set(entry) - {"user_id", "items"})
    if unknown or not entry:
        raise ValueError(f"an object has user_id or items, not {', '.join(unknown) or 'nothing'}")
    user, items = entry.get("user_id", ""), entry.get("items", [])
    if not isinstance(user, str):
        raise ValueError("user_id must be a string")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError("items must be a list of strings")
    return user, items


def explain_error(error: Any, address: str) -> int:
    """Say on stderr why a call failed; return the exit code."""
    message = error.message
    if error.code == "UNAVAILABLE" and not error.reason:
        message = f"nothing answers at {address}: is `specbeam serve` running?"
    click.echo(f"Error: {message}", err=True)
    for violation in error.violations if len(error.violations) > 1 else ():
        click.echo(f"  {violation.field}: {violation.description}", err=True)
    if error.code in ("INVALID_ARGUMENT", "NOT_FOUND"):
        return exit_codes.BAD_INPUT
    unreachable = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    return exit_codes.UNAVAILABLE if unreachable else exit_codes.FAILURE


def print_items(answer: Recommendation, title: str) -> None:
    """Print an answer as a table, and below it what it took."""
    rows = [
        (
            item.metadata.title if item.metadata and item.metadata.title else "-",
            item.item_id,
            f"{item.score:.4f}",
        )
        for item in answer.items
    ]
    print_table(title, ("title", "item", "score"), rows)
    click.echo(describe(answer))
    click.echo()


def describe(answer: Recommendation) -> str:
    """Return one sentence about what an answer took."""
    work, timings = answer.work, answer.timings
    how = f"{work.drafted_nodes} drafted nodes" if work.speculation_used else "without drafts"
    parts = [
        f"{work.passes} passes",
        f"{work.rows} rows",
        how,
        f"{timings.total_ms:.1f} ms on the server",
    ]
    if answer.mode != "exact_topk":
        parts.insert(0, f"{answer.mode.replace('_', ' ')}, seed {answer.seed}")
    if answer.exhausted:
        parts.append("no more items allowed")
    parts += [flag.replace("_", " ") for flag in answer.degraded]
    return ", ".join(parts)
