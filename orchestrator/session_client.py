"""What the sessions with target and draft share: conversions, and reading and writing a stream."""

import asyncio
import contextlib
from typing import Any, Generic, TypeVar

import grpc
import numpy as np

from orchestrator.ports import BeamPaths, ForwardTimes, SessionSpec
from specbeam.bundle import Fingerprints
from specbeam.runtime.session_search import from_leaf_spec
from specbeam.runtime.session_tokens import decode_tokens, encode_tokens
from specbeam.target.v1alpha1 import session_pb2 as pb

Request = TypeVar("Request")
Response = TypeVar("Response")

_SCORE_KINDS = {
    name: pb.ScoreKind.Value(f"SCORE_KIND_{name}") for name in ("VOCAB", "LEVEL", "TRIE")
}
_SCORE_KIND_NAMES: dict[int, str] = {number: name for name, number in _SCORE_KINDS.items()}

# What grpc.aio raises when it writes to a call that has ended, or half-closes it.
_WRITE_FAILED = (asyncio.InvalidStateError, grpc.RpcError, grpc.aio.InternalError)
# gRPC may end a call this much before its deadline by our clock, seconds.
_DEADLINE_SLACK_S = 0.005


class StreamEnded(Exception):
    """The peer ended the stream, or was gone before.

    Attributes:
        error: What gRPC says; None when the stream ended without an error.
    """

    def __init__(self, error: grpc.RpcError | None, code: grpc.StatusCode | None = None) -> None:
        self.error = error
        self._code = code
        details = error.details() if error is not None else "ended early"
        super().__init__(f"{self.code.name}: {details}")

    @property
    def code(self) -> grpc.StatusCode:
        """Status code of the stream."""
        if self._code is not None:
            return self._code
        return grpc.StatusCode.OK if self.error is None else self.error.code()


class Stream(Generic[Request, Response]):
    """One bidi call."""

    # Calls that are left to end by themselves: without a reference they would be cancelled.
    _ending: set[Any] = set()  # noqa: RUF012

    def __init__(self, call: Any) -> None:
        self._call = call

    async def write(self, message: Request, *, last: bool = False) -> None:
        """Send a message; `last` ends the sending side.

        Raises:
            StreamEnded: The peer is gone.
        """
        try:
            await self._call.write(message)
            if last:
                await self._call.done_writing()
        except _WRITE_FAILED as error:
            # A write that fails under way says INTERNAL; why the call ended is in its own status.
            raise self._ended(await self._error()) from error

    async def read(self) -> Response:
        """Return the next message.

        Raises:
            StreamEnded: There is none.
        """
        try:
            message: Response = await self._call.read()
        except grpc.RpcError as error:
            raise self._ended(error) from error
        if message is grpc.aio.EOF:
            raise StreamEnded(None)
        return message

    def close(self) -> None:
        """Half-close, and let the call end by itself."""
        call = self._call
        if call.done():
            return
        self._ending.add(call)
        call.add_done_callback(self._ending.discard)
        task = asyncio.ensure_future(_half_close(call))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def cancel(self) -> None:
        """End the call at once."""
        self._call.cancel()

    def _ended(self, error: grpc.RpcError | None) -> StreamEnded:
        """Return what the end of the call means.

        grpc.aio (1.85.1) gives a call that ends while it is written to a status of its own
        making, INTERNAL; one that a service sent comes with trailers.
        """
        made_up = (
            error is not None
            and error.code() is grpc.StatusCode.INTERNAL
            and not error.trailing_metadata()
        )
        if not made_up:
            return StreamEnded(error)
        left_s = self._call.time_remaining()
        if left_s is not None and left_s <= _DEADLINE_SLACK_S:
            return StreamEnded(error, grpc.StatusCode.DEADLINE_EXCEEDED)
        return StreamEnded(error, grpc.StatusCode.UNAVAILABLE)

    async def _error(self) -> grpc.RpcError | None:
        code = await self._call.code()
        if code is grpc.StatusCode.OK:
            return None
        return grpc.aio.AioRpcError(
            code,
            await self._call.initial_metadata() or grpc.aio.Metadata(),
            await self._call.trailing_metadata() or grpc.aio.Metadata(),
            await self._call.details(),
        )


async def _half_close(call: Any) -> None:
    with contextlib.suppress(*_WRITE_FAILED):
        await call.done_writing()


def to_header(spec: SessionSpec) -> pb.SessionHeader:
    """Return the header of a session."""
    return pb.SessionHeader(
        request_id=spec.request_id,
        tenant=spec.tenant,
        bundle=spec.bundle,
        fingerprints=pb.Fingerprints(
            model=spec.fingerprints.model,
            prompt=spec.fingerprints.prompt,
            catalog=spec.fingerprints.catalog,
        ),
        score_kind=_SCORE_KINDS[spec.score_kind],
    )


def to_search(spec: SessionSpec, *, report_nodes: int = 0) -> pb.SearchSpec:
    """Return what is searched for.

    Args:
        spec: The search.
        report_nodes: Most nodes per level whose scores are to be reported.
    """
    message = from_leaf_spec(
        spec.leaves,
        beam_width=spec.beam_width,
        max_rows=spec.max_rows,
        selection=spec.selection if spec.selection.draws else None,
    )
    message.report_nodes = report_nodes
    return message


def to_beams(beams: BeamPaths) -> pb.Beams:
    """Return beams as a message."""
    return pb.Beams(
        level=beams.level,
        tokens=encode_tokens(beams.tokens),
        scores=beams.scores.tolist(),
        rank_values=[] if beams.ranks is None else beams.ranks.tolist(),
    )


def from_beams(message: pb.Beams) -> BeamPaths:
    """Return the beams of a message.

    Raises:
        ValueError: The number of tokens or rank values does not fit that of the beams.
    """
    width = len(message.scores)
    ranks = np.array(message.rank_values, np.float64) if message.rank_values else None
    if ranks is not None and len(ranks) != width:
        raise ValueError(f"{len(ranks)} rank values of {width} beams")
    tokens = decode_tokens(message.tokens).reshape(width, message.level)
    return BeamPaths(message.level, tokens, np.array(message.scores, np.float64), ranks)


def from_fingerprints(message: pb.Fingerprints) -> Fingerprints:
    """Return the fingerprints of a message."""
    return Fingerprints(message.model, message.prompt, message.catalog)


def score_kind_name(number: int) -> str:
    """Return VOCAB, LEVEL or TRIE; empty for an unknown number."""
    return _SCORE_KIND_NAMES.get(number, "")


def from_forwards(messages: Any) -> ForwardTimes:
    """Return the forward passes of a repeated field."""
    return tuple((message.start_ns, message.end_ns) for message in messages)
