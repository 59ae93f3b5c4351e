"""`specbeam recommend`: ask a running orchestrator."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from specbeam.cli import exit_codes
from specbeam.cli.output import print_json, print_table, progress_console

if TYPE_CHECKING:
    from specbeam.client import Recommendation

EXAMPLES = """\b
Examples:
  specbeam recommend --user ann -k 5
  specbeam recommend --items item-7,item-12 --speculation on
  specbeam recommend --batch users.txt --json > answers.jsonl

A batch file has one user id a line, or one JSON object a line such as
{"user_id": "ann"} or {"items": ["item-7", "item-12"]}."""


@click.command(epilog=EXAMPLES)
@click.option("--user", default="", help="Whose stored history to use.")
@click.option("--items", default="", help="History to use instead: item ids, oldest first.")
@click.option("--batch", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-k", "--num-items", default=10, show_default=True, help="Items to return.")
@click.option("--beam-width", default=0, help="Beams of the search; 0 = the server's choice.")
@click.option(
    "--speculation", type=click.Choice(["auto", "on", "off"]), default="auto", show_default=True
)
@click.option("--include-history", is_flag=True, help="Also return items of the history.")
@click.option("--bundle", default="", help="Bundle to answer from.")
@click.option("--address", default="127.0.0.1:50051", show_default=True, help="The orchestrator.")
@click.option("--deadline-s", default=10.0, show_default=True, help="Deadline of each call.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; one line per answer in a batch.")
def recommend(
    user: str, items: str, batch: Path | None, address: str, as_json: bool, **options: Any
) -> int:
    """Print the best items for a user or a history, and what it took."""
    if batch is not None and (user or items):
        raise click.UsageError("--batch does not go with --user or --items")
    from specbeam.client import ClientError, SyncRecommendClient

    timeout_s = options.pop("deadline_s")
    history = [item.strip() for item in items.split(",") if item.strip()]
    failures = 0
    with SyncRecommendClient(address, timeout_s=timeout_s) as client:
        asked = [(user, history)] if batch is None else _read_batch(batch)
        for who, inline in asked:
            try:
                answer = _ask(client, who, inline, options)
            except ClientError as error:
                if batch is None:
                    return _explain(error, address)
                failures += 1
                progress_console().print(f"{who or ','.join(inline)}: {error}", soft_wrap=True)
                continue
            _print_answer(answer, who or "inline history", as_json, one_line=batch is not None)
    return exit_codes.FAILURE if failures else exit_codes.OK


def _ask(client: Any, user: str, items: Sequence[str], options: dict[str, Any]) -> Recommendation:
    from specbeam.client import Interaction

    answer: Recommendation = client.recommend(
        user,
        events=[Interaction(item) for item in items],
        num_items=options["num_items"],
        beam_width=options["beam_width"],
        speculation=options["speculation"],
        exclude_history=False if options["include_history"] else None,
        bundle=options["bundle"],
        include_metadata=True,
    )
    return answer


def _read_batch(path: Path) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        text = line.strip()
        if not text:
            continue
        if not text.startswith("{"):
            yield text, []
            continue
        try:
            entry = json.loads(text)
            yield str(entry.get("user_id", "")), [str(item) for item in entry.get("items", [])]
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error


def _explain(error: Any, address: str) -> int:
    message = error.message
    if error.code == "UNAVAILABLE" and not error.reason:
        message = f"nothing answers at {address}: is `specbeam serve` running?"
    click.echo(f"Error: {message}", err=True)
    for violation in error.violations:
        click.echo(f"  {violation.field}: {violation.description}", err=True)
    if error.code in ("INVALID_ARGUMENT", "NOT_FOUND"):
        return exit_codes.BAD_INPUT
    unreachable = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
    return exit_codes.UNAVAILABLE if unreachable else exit_codes.FAILURE


def _print_answer(answer: Recommendation, title: str, as_json: bool, *, one_line: bool) -> None:
    if as_json:
        document = dataclasses.asdict(answer)
        if one_line:
            click.echo(json.dumps(document))
        else:
            print_json(document)
        return
    print_items(answer, title)


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
    if answer.exhausted:
        parts.append("no more items allowed")
    parts += [flag.replace("_", " ") for flag in answer.degraded]
    return ", ".join(parts)
