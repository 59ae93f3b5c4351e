"""gRPC face of the target service."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from specbeam.engine.cost import CostPoint
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import Unavailable
from specbeam.runtime.session_stream import SessionStream
from specbeam.runtime.slots import SlotKeeper
from specbeam.target.v1alpha1 import target_service_pb2, target_service_pb2_grpc
from target_service import converters
from target_service.model import TargetModel
from target_service.session import TargetSession
from target_service.settings import TargetSettings

_Context = grpc.aio.ServicerContext[Any, Any]


class TargetServicer(target_service_pb2_grpc.TargetServiceServicer):
    """Answers sessions: each turn is one job of the device thread."""

    def __init__(
        self,
        model: TargetModel,
        device: DeviceThread,
        slots: SlotKeeper,
        settings: TargetSettings,
        threads: int,
    ) -> None:
        """Serve `model`, which `device` owns."""
        self._model = model
        self._device = device
        self._slots = slots
        self._settings = settings
        self._threads = threads
        self._served = converters.Served(model.bundle.manifest, model.bundle.trie, model.limits)
        self.costs: tuple[CostPoint, ...] = ()
        self.ready = False

    async def Verify(
        self,
        request_iterator: AsyncIterator[target_service_pb2.VerifyRequest],
        context: _Context,
    ) -> AsyncIterator[target_service_pb2.VerifyResponse]:
        """Run one search session; see target_service.proto."""
        if not self.ready:
            raise Unavailable("the target is warming up")
        budget = CallBudget.start(context, default_s=self._settings.default_deadline_s)
        stream = SessionStream(aiter(request_iterator), budget, self._settings.idle_lease_s)
        first = await stream.next()
        if first is None:
            return
        request = converters.decode_open(first, self._served)
        await self._slots.acquire(budget.remaining_s())
        session = TargetSession(self._model, request)
        try:
            yield converters.encode_turn(await self._device.run_timed(session.open))
            while (message := await stream.next()) is not None:
                step = converters.decode_advance(message, session.level)
                yield converters.encode_turn(await self._device.run_timed(session.advance, step))
        finally:
            self._slots.give_back(session.close)

    async def Search(
        self, request: target_service_pb2.SearchRequest, context: _Context
    ) -> target_service_pb2.SearchResponse:
        """Run a whole search without a draft; see target_service.proto."""
        if not self.ready:
            raise Unavailable("the target is warming up")
        budget = CallBudget.start(context, default_s=self._settings.default_deadline_s)
        search = converters.decode_search(request, self._served)
        await self._slots.acquire(budget.remaining_s())
        session = TargetSession(self._model, search)
        try:
            job = await self._device.run_timed(session.open)
        finally:
            self._slots.give_back(session.close)
        return target_service_pb2.SearchResponse(outcome=converters.encode_turn(job))

    async def GetInfo(
        self, request: target_service_pb2.GetInfoRequest, context: _Context
    ) -> target_service_pb2.GetInfoResponse:
        """Say what is served."""
        return converters.encode_info(
            self._model,
            slots_free=self._slots.gate.free,
            threads=self._threads,
            costs=self.costs,
        )
