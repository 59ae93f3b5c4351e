"""Printing an answer while it is searched for."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from specbeam.client import Prefix, Recommendation, RootPreview, StreamEvent, VerifiedLevel

SHOWN_BEAMS = 4
SHOWN_GUESSES = 3


def event_line(event: StreamEvent) -> str:
    """Return a piece of news as one JSON object on one line."""
    from specbeam.client import RootPreview, VerifiedLevel

    kind = {RootPreview: "preview", VerifiedLevel: "level"}.get(type(event), "answer")
    return json.dumps({"event": kind, **dataclasses.asdict(event)})


def print_news(event: RootPreview | VerifiedLevel) -> None:
    """Print what is known of an answer as one or two lines."""
    from specbeam.client import RootPreview

    level = 1 if isinstance(event, RootPreview) else event.level
    items = sum(beam.num_items for beam in event.beams)
    click.echo(
        f"{event.elapsed_ms:7.1f} ms  level {level}: {len(event.beams)} beams over {items:,} "
        f"items, best {_beams(event.beams)}"
    )
    if isinstance(event, RootPreview) and event.guesses:
        names = [
            guess.metadata.title if guess.metadata and guess.metadata.title else guess.item_id
            for guess in event.guesses[:SHOWN_GUESSES]
        ]
        more = len(event.guesses) - len(names)
        click.echo(f"{'':12}guesses: {'; '.join(names)}{f'; {more} more' if more else ''}")


def print_arrival(answer: Recommendation) -> None:
    """Print when the answer came."""
    click.echo(f"{answer.timings.total_ms:7.1f} ms  answer: {len(answer.items)} items")


def _beams(beams: tuple[Prefix, ...]) -> str:
    shown = [
        f"{'-'.join(map(str, beam.tokens))} ({beam.score:.2f})" for beam in beams[:SHOWN_BEAMS]
    ]
    return ", ".join(shown) + (", ..." if len(beams) > SHOWN_BEAMS else "")
