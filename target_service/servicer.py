"""gRPC face of the target service."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from specbeam.model_service.host import ModelHost
from specbeam.runtime.session_stream import SessionStream
from specbeam.target.v1alpha1 import target_service_pb2, target_service_pb2_grpc
from target_service import converters
from target_service.model import TargetModel
from target_service.session import TargetSession

_Context = grpc.aio.ServicerContext[Any, Any]


class TargetServicer(target_service_pb2_grpc.TargetServiceServicer):
    """Answers sessions: each turn is one job of the device thread."""

    def __init__(self, host: ModelHost[TargetModel], idle_lease_s: float) -> None:
        """Serve the host's model; a session that sits idle for `idle_lease_s` is ended."""
        self._host = host
        self._idle_lease_s = idle_lease_s

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_service_pb2.VerifyRequest],
        context: _Context,
    ) -> AsyncIterator[target_service_pb2.VerifyResponse]:
        """Run one search session; see target_service.proto."""
        budget = self._host.admit(context)
        stream = SessionStream(aiter(request_iterator), budget, self._idle_lease_s)
        first = await stream.next()
        if first is None:
            return
        request = converters.decode_open(first, self._host.model)
        leaf_filter = await self._host.compile(request.leaves)
        await self._host.slots.acquire(budget.remaining_s())
        session = TargetSession(self._host.model, request, leaf_filter)
        try:
            yield converters.encode_turn(await self._host.device.run_timed(session.open))
            while (message := await stream.next()) is not None:
                step = converters.decode_advance(message, session.level)
                yield converters.encode_turn(
                    await self._host.device.run_timed(session.advance, step)
                )
        finally:
            self._host.slots.give_back(session.close)

    async def Search(
        self, request: target_service_pb2.SearchRequest, context: _Context
    ) -> target_service_pb2.SearchResponse:
        """Run a whole search in one call; see target_service.proto."""
        budget = self._host.admit(context)
        search = converters.decode_search(request, self._host.model)
        leaf_filter = await self._host.compile(search.leaves)
        await self._host.slots.acquire(budget.remaining_s())
        session = TargetSession(self._host.model, search, leaf_filter)
        try:
            job = await self._host.device.run_timed(session.open)
        finally:
            self._host.slots.give_back(session.close)
        return target_service_pb2.SearchResponse(outcome=converters.encode_turn(job))

    async def GetInfo(
        self, request: target_service_pb2.GetInfoRequest, context: _Context
    ) -> target_service_pb2.GetInfoResponse:
        """Say what is served."""
        return converters.encode_info(self._host)
