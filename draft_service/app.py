"""Puts the draft service together, for a process of its own or inside another one."""

import grpc

from draft_service.model import DraftModel, load_drafter
from draft_service.servicer import DraftServicer
from draft_service.settings import DraftSettings
from draft_service.warmup import check_proposal
from specbeam.draft.v1alpha1 import draft_service_pb2, draft_service_pb2_grpc
from specbeam.model_service.app import ModelService, build_model_app
from specbeam.model_service.host import ModelHost
from specbeam.runtime.lifecycle import ServiceApp


async def start_app(settings: DraftSettings) -> ServiceApp:
    """Start the service in this process and return once it is ready; `stop` ends it.

    Raises:
        BundleError: The bundle or its drafter cannot be served.
        PortInUse: The port is taken.
    """
    app = await build_app(settings)
    await app.start()
    return app


async def build_app(settings: DraftSettings) -> ServiceApp:
    """Bind the port and load the model; raises as `start_app` does."""

    def load() -> DraftModel:
        return load_drafter(
            settings.bundle,
            drafter=settings.drafter,
            device=settings.device,
            dtype=settings.dtype,
            slots=settings.slots,
            max_nodes=settings.max_nodes,
            max_beam_width=settings.max_beam_width,
        )

    def add(host: ModelHost[DraftModel], server: grpc.aio.Server) -> None:
        servicer = DraftServicer(host, settings.idle_lease_s)
        draft_service_pb2_grpc.add_DraftServiceServicer_to_server(servicer, server)

    descriptor = draft_service_pb2.DESCRIPTOR.services_by_name["DraftService"]
    service = ModelService("draft", descriptor, load, check_proposal, add, settings.max_nodes)
    return await build_model_app(settings, service)
