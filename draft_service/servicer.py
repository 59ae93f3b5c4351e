"""gRPC face of the draft service."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

from draft_service import converters
from draft_service.model import DraftModel
from draft_service.session import DraftingSession
from draft_service.settings import DraftSettings
from specbeam.draft.v1alpha1 import draft_service_pb2, draft_service_pb2_grpc
from specbeam.engine.cost import CostPoint
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.errors import Unavailable
from specbeam.runtime.session_stream import SessionStream
from specbeam.runtime.slots import SlotKeeper

_Context = grpc.aio.ServicerContext[Any, Any]


class DraftServicer(draft_service_pb2_grpc.DraftServiceServicer):
    """Answers sessions: the prompt and each level are jobs of the device thread."""

    def __init__(
        self,
        model: DraftModel,
        device: DeviceThread,
        slots: SlotKeeper,
        settings: DraftSettings,
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

    async def Draft(
        self,
        request_iterator: AsyncIterator[draft_service_pb2.DraftRequest],
        context: _Context,
    ) -> AsyncIterator[draft_service_pb2.DraftResponse]:
        """Run one drafting session; see draft_service.proto."""
        if not self.ready:
            raise Unavailable("the drafter is warming up")
        budget = CallBudget.start(context, default_s=self._settings.default_deadline_s)
        stream = SessionStream(aiter(request_iterator), budget, self._settings.idle_lease_s)
        first = await stream.next()
        if first is None:
            return
        request = converters.decode_open(first, self._served)
        await self._slots.acquire(budget.remaining_s())
        session = DraftingSession(self._model, request)
        try:
            opened = await self._device.run_timed(session.open)
            yield converters.encode_ready(opened, len(request.prompt))
            while (message := await stream.next()) is not None:
                session.begin(converters.decode_propose(message, self._served, request.beam_width))
                last = False
                while not last:
                    drafted = await self._device.run_timed(session.next_level)
                    last = drafted.value.last
                    yield converters.encode_level(drafted)
        finally:
            self._slots.give_back(session.close)

    async def GetInfo(
        self, request: draft_service_pb2.GetInfoRequest, context: _Context
    ) -> draft_service_pb2.GetInfoResponse:
        """Say what is served."""
        return converters.encode_info(
            self._model,
            slots_free=self._slots.gate.free,
            threads=self._threads,
            costs=self.costs,
        )
