"""The options of commands that ask an orchestrator for one user's items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from specbeam.cli.drawing_options import drawing_options

if TYPE_CHECKING:
    from specbeam.client import RecommendOptions

Command = TypeVar("Command", bound=Callable[..., Any])

_BEFORE = (
    click.option("--user", default="", help="Whose stored history to use."),
    click.option("--items", default="", help="History to use instead: item ids, oldest first."),
    click.option(
        "-k",
        "--num-items",
        type=click.IntRange(1),
        default=10,
        show_default=True,
        help="Items to return.",
    ),
    click.option(
        "--beam-width",
        type=click.IntRange(0),
        default=0,
        help="Beams of the search; 0 = the server's choice.",
    ),
)
_AFTER = (
    click.option("--bundle", default="", help="Bundle to answer from."),
    click.option(
        "--address", default="127.0.0.1:50051", show_default=True, help="The orchestrator."
    ),
    click.option(
        "--deadline-s",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        show_default=True,
        help="Deadline of each call.",
    ),
)


def asking_options(speculation: str) -> Callable[[Command], Command]:
    """Return what adds the options to a command.

    Args:
        speculation: used where it is not said.
    """
    choice = click.option(
        "--speculation",
        type=click.Choice(["auto", "on", "off"]),
        default=speculation,
        show_default=True,
    )

    def add(command: Command) -> Command:
        for option in (*_AFTER[::-1], drawing_options, choice, *_BEFORE[::-1]):
            command = option(command)
        return command

    return add


def listed(items: str) -> list[str]:
    """Return the item ids of --items."""
    return [item.strip() for item in items.split(",") if item.strip()]


def to_request(items: Sequence[str], options: dict[str, Any]) -> RecommendOptions:
    """Return what a client is asked for.

    Args:
        items: history to use instead of the stored one, oldest first.
        options: of the command; names that are none of these options are left alone.
    """
    from specbeam.client import Interaction, RecommendOptions

    return RecommendOptions(
        events=[Interaction(item) for item in items],
        num_items=options["num_items"],
        beam_width=options["beam_width"],
        speculation=options["speculation"],
        bundle=options["bundle"],
        mode=options["mode"],
        seed=options["seed"],
        temperature=options["temperature"],
        top_k=options["top_k"],
        draft_width=options["draft_width"],
        include_metadata=True,
    )
