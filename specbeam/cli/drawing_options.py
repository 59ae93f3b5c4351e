"""The options that say how items are drawn in sampling modes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

MODES = ("exact-topk", "exact-sampling", "relaxed-sampling")
MAX_SEED = (1 << 64) - 1

_OPTIONS = (
    click.option(
        "--mode",
        type=click.Choice(MODES),
        default=MODES[0],
        show_default=True,
        callback=lambda context, option, value: value.replace("-", "_"),
        help="The best items, a sample without replacement, or AtSpeed's approximate sample.",
    ),
    click.option(
        "--seed", type=click.IntRange(0, MAX_SEED), help="Seed of a sample, to have it again."
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(0, 100, min_open=True),
        help="Temperature of a sample.  [default: 1]",
    ),
    click.option(
        "--top-k",
        type=click.IntRange(0),
        default=0,
        help="Sample among so many tokens of every step; 0 = all.",
    ),
    click.option(
        "--draft-width",
        type=click.IntRange(0),
        default=0,
        help="Prefixes drafted per level of a relaxed sample; 0 = twice the beam width.",
    ),
)


def drawing_options(command: Command) -> Command:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
