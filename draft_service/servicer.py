"""gRPC face of the draft service."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from draft_service import converters
from draft_service.model import DraftModel
from draft_service.session import DraftingSession
from specbeam.draft.v1alpha1 import draft_service_pb2, draft_service_pb2_grpc
from specbeam.model_service.host import ModelHost
from specbeam.runtime.session_stream import SessionStream

_Context = grpc.aio.ServicerContext[Any, Any]


class DraftServicer(draft_service_pb2_grpc.DraftServiceServicer):
    """Answers sessions: the prompt and each level are jobs of the device thread."""

    def __init__(self, host: ModelHost[DraftModel], idle_lease_s: float) -> None:
        """Serve the host's model; a session that sits idle for `idle_lease_s` is ended."""
        self._host = host
        self._idle_lease_s = idle_lease_s

    async def Draft(
        self,
        request_iterator: AsyncIterator[draft_service_pb2.DraftRequest],
        context: _Context,
    ) -> AsyncIterator[draft_service_pb2.DraftResponse]:
        """Run one drafting session; see draft_service.proto."""
        budget = self._host.admit(context)
        stream = SessionStream(aiter(request_iterator), budget, self._idle_lease_s)
        first = await stream.next()
        if first is None:
            return
        request = converters.decode_open(first, self._host.model)
        leaf_filter = await self._host.compile(request.leaves)
        await self._host.slots.acquire(budget.remaining_s())
        session = DraftingSession(self._host.model, request, leaf_filter)
        try:
            opened = await self._host.device.run_timed(session.open)
            yield converters.encode_ready(opened, len(request.prompt))
            while (message := await stream.next()) is not None:
                session.begin(
                    converters.decode_propose(message, self._host.model, request.beam_width)
                )
                last = False
                while not last:
                    drafted = await self._host.device.run_timed(session.next_level)
                    last = drafted.value.last
                    yield converters.encode_level(drafted)
        finally:
            self._host.slots.give_back(session.close)

    async def GetInfo(
        self, request: draft_service_pb2.GetInfoRequest, context: _Context
    ) -> draft_service_pb2.GetInfoResponse:
        """Say what is served."""
        return converters.encode_info(self._host)
