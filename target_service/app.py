"""Puts the target service together, for a process of its own or inside another one."""

import grpc

from specbeam.model_service.app import ModelService, build_model_app
from specbeam.model_service.host import ModelHost
from specbeam.runtime.lifecycle import ServiceApp
from specbeam.target.v1alpha1 import target_service_pb2, target_service_pb2_grpc
from target_service.model import TargetModel, load_target
from target_service.servicer import TargetServicer
from target_service.settings import TargetSettings
from target_service.warmup import check_search


async def start_app(settings: TargetSettings) -> ServiceApp:
    """Start the service in this process and return once it is ready; `stop` ends it.

    Raises:
        BundleError: The bundle cannot be served.
        PortInUse: The port is taken.
    """
    app = await build_app(settings)
    await app.start()
    return app


async def build_app(settings: TargetSettings) -> ServiceApp:
    """Bind the port and load the model; raises as `start_app` does."""

    def load() -> TargetModel:
        return load_target(
            settings.bundle,
            device=settings.device,
            dtype=settings.dtype,
            slots=settings.slots,
            max_rows=settings.max_rows,
            max_beam_width=settings.max_beam_width,
        )

    def add(host: ModelHost[TargetModel], server: grpc.aio.Server) -> None:
        servicer = TargetServicer(host, settings.idle_lease_s)
        target_service_pb2_grpc.add_TargetServiceServicer_to_server(servicer, server)

    descriptor = target_service_pb2.DESCRIPTOR.services_by_name["TargetService"]
    service = ModelService("target", descriptor, load, check_search, add, settings.max_rows)
    return await build_model_app(settings, service)
