"""The draft service over gRPC."""

import grpc
import numpy as np

from orchestrator.ports import (
    BeamPaths,
    DraftedLevel,
    DraftFailed,
    DraftInvalid,
    ForwardTimes,
    PeerInfo,
    ServedBundle,
    SessionSpec,
)
from orchestrator.session_client import (
    Stream,
    StreamEnded,
    from_fingerprints,
    from_forwards,
    to_beams,
    to_header,
    to_search,
)
from specbeam.draft.v1alpha1 import draft_service_pb2 as pb
from specbeam.draft.v1alpha1.draft_service_pb2_grpc import DraftServiceStub
from specbeam.runtime.errors import DraftUnavailable
from specbeam.runtime.session_tokens import decode_tokens


class DraftClient:
    """The draft service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        """Use a channel; it stays the caller's.

        Args:
            channel: Channel to the draft service.
        """
        self._stub = DraftServiceStub(channel)

    def session(self, timeout_s: float) -> "DraftStream":
        """Return a new session."""
        return DraftStream(Stream(self._stub.Draft(timeout=timeout_s)))

    async def info(self, timeout_s: float) -> PeerInfo:
        """Return what the service says about itself."""
        try:
            answer = await self._stub.GetInfo(pb.GetInfoRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            text = f"{error.code().name}: {error.details()}"
            raise DraftUnavailable(text) from error
        return PeerInfo(
            bundles={
                bundle.name: ServedBundle(from_fingerprints(bundle.fingerprints))
                for bundle in answer.bundles
            },
            slots=answer.slots,
            slots_free=answer.slots_free,
            max_rows=answer.max_nodes,
            costs={(cost.rows, cost.prefix_tokens): cost.ms for cost in answer.costs},
        )


class DraftStream:
    """One drafting session."""

    def __init__(self, stream: Stream[pb.DraftRequest, pb.DraftResponse]) -> None:
        self._stream = stream
        self._ready = False
        self._forwards: ForwardTimes = ()

    async def send_open(self, spec: SessionSpec) -> None:
        """Open the session; `Ready` is read with the first level."""
        message = pb.DraftOpen(
            header=to_header(spec),
            prompt_tokens=spec.prompt.tolist(),
            search=to_search(spec),
        )
        await self._write(pb.DraftRequest(open=message))

    async def send_propose(self, beams: BeamPaths, levels: int, max_nodes: int) -> None:
        """Ask for levels below exact beams."""
        message = pb.Propose(beams=to_beams(beams), levels=levels, max_nodes=max_nodes)
        await self._write(pb.DraftRequest(propose=message))

    async def level(self) -> DraftedLevel:
        """Return the next drafted level."""
        if not self._ready:
            first = await self._read()
            if first.WhichOneof("event") != "ready":
                raise DraftInvalid("the first message is not `ready`")
            self._ready = True
            self._forwards = from_forwards(first.ready.stats.forwards)
        answer = await self._read()
        if answer.WhichOneof("event") != "level":
            raise DraftInvalid("a message is not a level")
        drafted = answer.level
        forwards, self._forwards = self._forwards, ()
        return DraftedLevel(
            base_level=drafted.base_level,
            level=drafted.level,
            parents=np.array(drafted.parents, np.int64),
            tokens=decode_tokens(drafted.tokens),
            last=drafted.last,
            forward_ms=drafted.stats.forward_ms,
            forwards=forwards + from_forwards(drafted.stats.forwards),
            logprobs=np.array(drafted.logprobs, np.float32),
        )

    def close(self) -> None:
        """Let the session end by itself."""
        self._stream.close()

    def cancel(self) -> None:
        """End the session at once."""
        self._stream.cancel()

    async def _write(self, message: pb.DraftRequest) -> None:
        try:
            await self._stream.write(message)
        except StreamEnded as error:
            raise DraftFailed(str(error)) from error

    async def _read(self) -> pb.DraftResponse:
        try:
            return await self._stream.read()
        except StreamEnded as error:
            raise DraftFailed(str(error)) from error
