"""The target service over gRPC."""

from typing import Any

import grpc
import numpy as np

from orchestrator.ports import (
    BeamPaths,
    PeerInfo,
    PlainSteps,
    ServedBundle,
    SessionLost,
    SessionSpec,
    Step,
    TargetTurn,
)
from orchestrator.session_client import (
    Stream,
    StreamEnded,
    from_beams,
    from_fingerprints,
    from_forwards,
    score_kind_name,
    to_beams,
    to_header,
    to_search,
)
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.tree import CandidateTree
from specbeam.runtime.errors import (
    DeadlineSpent,
    Internal,
    Overloaded,
    SpecbeamError,
    TargetUnavailable,
)
from specbeam.runtime.session_tokens import decode_tokens, encode_tokens
from specbeam.runtime.status import decode_error
from specbeam.target.v1alpha1 import session_pb2
from specbeam.target.v1alpha1 import target_service_pb2 as pb
from specbeam.target.v1alpha1.target_service_pb2_grpc import TargetServiceStub

# The peer is gone or going; another attempt may reach another replica.
_LOST = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.OK)
_OTHER_BUNDLE = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION)


class TargetClient:
    """The target service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Use a channel; it stays the caller's.

        Args:
            channel: Channel to the target service.
        """
        self._channel = channel
        self._stub = TargetServiceStub(channel)

    def session(self, timeout_s: float) -> "TargetStream":
        """Return a new session."""
        connected = self._channel.get_state() is grpc.ChannelConnectivity.READY
        return TargetStream(self._stub, timeout_s, connected)

    async def info(self, timeout_s: float) -> PeerInfo:
        """Return what the target says about itself."""
        try:
            answer = await self._stub.GetInfo(pb.GetInfoRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            text = f"{error.code().name}: {error.details()}"
            raise TargetUnavailable(text) from error
        return PeerInfo(
            bundles={
                bundle.name: ServedBundle(
                    from_fingerprints(bundle.fingerprints),
                    score_kind_name(bundle.score_kind),
                    bundle.own_drafter,
                )
                for bundle in answer.bundles
            },
            slots=answer.slots,
            slots_free=answer.slots_free,
            max_rows=answer.max_rows,
            max_beam_width=answer.max_beam_width,
            costs={(cost.rows, cost.prefix_tokens): cost.ms for cost in answer.costs},
        )


class TargetStream:
    """One search session; a search that needs no draft is a single call instead."""

    def __init__(self, stub: Any, timeout_s: float, connected: bool) -> None:
        self._stub = stub
        self._timeout_s = timeout_s
        self._connected = connected
        self._stream: Stream[pb.VerifyRequest, pb.VerifyResponse] | None = None
        self._search: Any = None

    async def send_open(
        self,
        spec: SessionSpec,
        *,
        resume: BeamPaths | None = None,
        then: Step | None = None,
        tree: CandidateTree | None = None,
    ) -> None:
        """Open the session; a step sent along is taken in the same turn, the session's last."""
        own = spec.own_draft
        message = pb.Open(
            header=to_header(spec),
            prompt_tokens=spec.prompt.tolist(),
            search=to_search(spec, report_nodes=spec.report_nodes),
            resume=None if resume is None else to_beams(resume),
            tree=None if tree is None else _to_tree(tree),
            own_draft=None
            if own is None
            else pb.OwnDraft(levels=own.levels, max_nodes=own.max_nodes),
        )
        if then is None:
            self._stream = Stream(self._stub.Verify(timeout=self._timeout_s))
            await self._write(pb.VerifyRequest(open=message))
            return
        request = pb.SearchRequest(open=message, then=_to_advance(0, then))
        self._search = self._stub.Search(request, timeout=self._timeout_s)

    async def send_step(self, base_level: int, step: Step, *, last: bool) -> None:
        """Move the exact beams on."""
        await self._write(pb.VerifyRequest(advance=_to_advance(base_level, step)), last=last)

    async def turn(self) -> TargetTurn:
        """Return the next answer."""
        try:
            return _from_response(await self._answer())
        except StreamEnded as error:
            raise self._translate(error) from error
        except ValueError as error:
            raise Internal() from error

    def close(self) -> None:
        """Let the session end by itself."""
        if self._stream is not None:
            self._stream.close()

    def cancel(self) -> None:
        """End the session at once."""
        for call in (self._stream, self._search):
            if call is not None:
                call.cancel()

    async def _answer(self) -> pb.VerifyResponse:
        if self._search is None:
            assert self._stream is not None
            return await self._stream.read()
        try:
            answer: pb.SearchResponse = await self._search
        except grpc.RpcError as error:
            raise StreamEnded(error) from error
        return answer.outcome

    async def _write(self, message: pb.VerifyRequest, *, last: bool = False) -> None:
        assert self._stream is not None
        try:
            await self._stream.write(message, last=last)
        except StreamEnded as error:
            raise self._translate(error) from error

    def _translate(self, ended: StreamEnded) -> SessionLost | SpecbeamError:
        """Return the end of a stream as an error of ours: its statuses are not our client's."""
        code = ended.code
        if ended.error is None or code in _LOST:
            return SessionLost(str(ended), connected=self._connected)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlineSpent()
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(retry_after_s=decode_error(ended.error).retry_after_s)
        if code in _OTHER_BUNDLE:
            return TargetUnavailable("the target service serves another bundle")
        return Internal()


def _to_advance(base_level: int, step: Step) -> pb.Advance:
    if isinstance(step, PlainSteps):
        return pb.Advance(base_level=base_level, plain_steps=step.count)
    if isinstance(step, CandidateTree):
        return pb.Advance(base_level=base_level, tree=_to_tree(step))
    return pb.Advance(base_level=base_level, run_to_end=pb.RunToEnd())


def _to_tree(tree: CandidateTree) -> session_pb2.CandidateTree:
    return session_pb2.CandidateTree(
        base_level=tree.base_level,
        parents=tree.parents.tolist(),
        tokens=encode_tokens(tree.tokens),
        complete=tree.complete,
        child_scores=[] if tree.child_scores is None else tree.child_scores.tolist(),
    )


def _from_tree(message: session_pb2.ScoredTree) -> ScoredTree:
    """Return a scored tree.

    Raises:
        ValueError: Its parts are not of one length.
    """
    lengths = {len(message.parents), len(message.tokens), len(message.logprobs)}
    if len(lengths) != 1:
        raise ValueError(f"a scored tree of {sorted(lengths)} parents, tokens and logprobs")
    return ScoredTree(
        message.base_level,
        np.array(message.parents, np.int64),
        decode_tokens(message.tokens),
        np.array(message.logprobs, np.float32),
    )


def _from_response(message: pb.VerifyResponse) -> TargetTurn:
    stats = message.stats
    return TargetTurn(
        beams=from_beams(message.beams),
        finished=message.finished,
        passes=stats.passes,
        rows=stats.rows,
        prompt_rows=stats.prompt_rows,
        accepted_levels=stats.accepted_levels,
        dropped_nodes=stats.dropped_nodes,
        cached_tokens=stats.cached_tokens,
        forward_ms=stats.forward_ms,
        forwards=from_forwards(stats.forwards),
        scored=_from_tree(message.scored) if message.HasField("scored") else None,
        drafted=_from_tree(message.drafted) if message.HasField("drafted") else None,
    )
