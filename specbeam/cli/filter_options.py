"""The options of `specbeam recommend` that say which items may be returned."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Filters:
    """What was asked for, as the client takes it and as ``--json`` shows it.

    Attributes:
        exclude_history: Leave out what the user has seen; None = the bundle's default.
        exclude_item_ids: Items to leave out.
        allow_item_ids: The only items to return; None = every item.
        required_tags: Clauses, each with the alternatives that satisfy it.
        created_after_ms: Only items made then or later, milliseconds since 1970-01-01 UTC; None =
            any time.
    """

    exclude_history: bool | None
    exclude_item_ids: tuple[str, ...]
    allow_item_ids: tuple[str, ...] | None
    required_tags: tuple[tuple[str, ...], ...]
    created_after_ms: int | None


def read_filters(options: dict[str, Any]) -> Filters:
    """Return the filters and take their options out.

    Raises:
        click.BadParameter: An option says nothing, or nothing that can be understood.
        ValueError: The file of allowed items is not a text file.
    """
    created_after = options.pop("created_after")
    return Filters(
        exclude_history=False if options.pop("include_history") else None,
        exclude_item_ids=options.pop("exclude"),
        allow_item_ids=_allowed(options.pop("allow"), options.pop("allow_file")),
        required_tags=tuple(_clause(text) for text in options.pop("require_tag")),
        created_after_ms=None if created_after is None else _milliseconds(created_after),
    )


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file without the space around them.

    Raises:
        ValueError: It is not a text file.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file") from error


def _allowed(named: tuple[str, ...], file: Path | None) -> tuple[str, ...] | None:
    if file is None:
        return named or None
    listed = tuple(line for line in read_lines(file) if line)
    if not listed and not named:
        raise click.BadParameter(f"{file} names no item", param_hint="--allow-file")
    return named + listed


def _clause(text: str) -> tuple[str, ...]:
    tags = tuple(tag.strip() for tag in text.split("|"))
    if not all(tags):
        raise click.BadParameter(f"{text!r} has an empty tag", param_hint="--require-tag")
    return tags


def _milliseconds(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        problem = f"{text!r} is neither an ISO 8601 time nor a number of milliseconds"
        raise click.BadParameter(problem, param_hint="--created-after") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    from specbeam.client_messages import to_milliseconds

    return to_milliseconds(moment)
