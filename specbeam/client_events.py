"""What `stream_recommend` yields, and how it is read from a call."""

from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc

from specbeam.client_errors import client_error
from specbeam.client_messages import decode_metadata, decode_recommendation
from specbeam.client_types import ItemMetadata, Recommendation
from specbeam.recommend.v1 import recommend_service_pb2 as service_pb2


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of token paths.

    Attributes:
        tokens: Its tokens.
        score: Its log-probability.
        rank_value: What beams are ordered by, descending.
        num_items: Items of the catalogue below it.
    """

    tokens: tuple[int, ...]
    score: float
    rank_value: float
    num_items: int


@dataclass(frozen=True, slots=True)
class PreviewItem:
    """An item of a preview, with its catalogue entry if asked for."""

    item_id: str
    metadata: ItemMetadata | None


@dataclass(frozen=True, slots=True)
class RootPreview:
    """The first level is exact.

    Attributes:
        beams: Its exact beams, best first.
        guesses: Popular items below them, best first: no part of the answer.
        elapsed_ms: Since the request arrived at the server, milliseconds.
    """

    beams: tuple[Prefix, ...]
    guesses: tuple[PreviewItem, ...]
    elapsed_ms: float


@dataclass(frozen=True, slots=True)
class VerifiedLevel:
    """A deeper level is exact.

    Attributes:
        level: Tokens of each beam.
        beams: Its exact beams, best first.
        elapsed_ms: Since the request arrived at the server, milliseconds.
    """

    level: int
    beams: tuple[Prefix, ...]
    elapsed_ms: float


StreamEvent: TypeAlias = RootPreview | VerifiedLevel | Recommendation
"""One piece of news; the last one is the answer."""


def decode_event(message: service_pb2.StreamRecommendResponse) -> StreamEvent | None:
    """Return what a piece of news says; None for one that only a newer client knows."""
    kind = message.WhichOneof("event")
    if kind == "preview":
        guesses = (
            PreviewItem(
                guess.item_id,
                decode_metadata(guess.metadata) if guess.HasField("metadata") else None,
            )
            for guess in message.preview.guesses
        )
        beams = _decode_prefixes(message.preview.beams)
        return RootPreview(beams, tuple(guesses), message.preview.elapsed_ms)
    if kind == "level":
        level = message.level
        return VerifiedLevel(level.level, _decode_prefixes(level.beams), level.elapsed_ms)
    return decode_recommendation(message.answer) if kind == "answer" else None


def read_events(call: Any) -> Generator[StreamEvent, None, None]:
    """Yield the events of a call; the call ends with the generator.

    Raises:
        ClientError: The call failed.
    """
    try:
        for message in call:
            event = decode_event(message)
            if event is not None:
                yield event
    except grpc.RpcError as error:
        raise client_error(error) from error
    finally:
        call.cancel()


async def read_events_async(call: Any) -> AsyncGenerator[StreamEvent, None]:
    """Yield the events of a call of asyncio; see `read_events`."""
    try:
        async for message in call:
            event = decode_event(message)
            if event is not None:
                yield event
    except grpc.aio.AioRpcError as error:
        raise client_error(error) from error
    finally:
        call.cancel()


def _decode_prefixes(messages: Any) -> tuple[Prefix, ...]:
    return tuple(Prefix(tuple(m.tokens), m.score, m.rank_value, m.num_items) for m in messages)
