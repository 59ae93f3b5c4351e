"""Puts the draft service together, for a process of its own or inside another one."""

import structlog

from draft_service.model import DraftModel, load_drafter
from draft_service.servicer import DraftServicer
from draft_service.settings import DraftSettings
from draft_service.warmup import check_proposal
from specbeam.draft.v1alpha1 import draft_service_pb2, draft_service_pb2_grpc
from specbeam.engine.cost import default_cache_dir, find_costs
from specbeam.engine.threads import cpu_threads, set_threads
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.health import Health
from specbeam.runtime.lifecycle import ServiceApp
from specbeam.runtime.server import bind, create_server, enable_reflection
from specbeam.runtime.slots import SlotGate, SlotKeeper

SERVICE = draft_service_pb2.DESCRIPTOR.services_by_name["DraftService"].full_name

_log = structlog.get_logger("specbeam.draft")


async def start_app(settings: DraftSettings) -> ServiceApp:
    """Start the service in this process and return once it is ready; `stop` ends it.

    Raises:
        BundleError: The bundle or its drafter cannot be served.
        PortInUse: The port is taken.
    """
    app = await build_app(settings)
    await app.start()
    return app


async def run(settings: DraftSettings) -> None:
    """Run the service until a signal ends it; raises as `start_app` does."""
    await (await build_app(settings)).run()


async def build_app(settings: DraftSettings) -> ServiceApp:
    """Bind the port and load the model; raises as `start_app` does."""
    server = create_server(
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_rpcs=settings.max_concurrent_rpcs,
    )
    port = bind(server, settings.host, settings.port)
    threads = cpu_threads(settings.threads)
    device = DeviceThread("draft-device", lambda: set_threads(threads))
    await device.start()
    try:
        model = await device.run(_load, settings)
    except BaseException:
        await device.close()
        await server.stop(None)
        raise
    slots = SlotKeeper(SlotGate(settings.slots, settings.max_waiting), device)
    servicer = DraftServicer(model, device, slots, settings, threads)
    draft_service_pb2_grpc.add_DraftServiceServicer_to_server(servicer, server)
    health = Health([SERVICE], lambda: servicer.ready)
    await health.register(server)
    if settings.reflection:
        enable_reflection(server, [SERVICE])

    async def warm_up() -> None:
        await _warm_up(servicer, model, device, settings, threads)

    return ServiceApp(
        server=server,
        health=health,
        port=port,
        warm_up=warm_up,
        closers=(slots.drain, device.close),
        drain_delay_s=settings.drain_delay_s,
        grace_s=settings.grace_s,
    )


def _load(settings: DraftSettings) -> DraftModel:
    return load_drafter(
        settings.bundle,
        drafter=settings.drafter,
        device=settings.device,
        dtype=settings.dtype,
        slots=settings.slots,
        max_nodes=settings.max_nodes,
        max_beam_width=settings.max_beam_width,
    )


async def _warm_up(
    servicer: DraftServicer,
    model: DraftModel,
    device: DeviceThread,
    settings: DraftSettings,
    threads: int,
) -> None:
    await device.run(check_proposal, model)
    cache_dir = settings.cache_dir or default_cache_dir()
    servicer.costs, problem = await device.run(
        lambda: find_costs(
            model.runner,
            model.fingerprint,
            threads=threads,
            max_rows=settings.max_nodes,
            cache_dir=cache_dir,
            budget_s=settings.warm_up_s,
        )
    )
    if problem is not None:
        _log.warning("costs_not_kept", directory=str(cache_dir), error=str(problem))
    servicer.ready = True
    _log.info("ready", bundle=model.bundle.manifest.name, drafter=model.drafter, threads=threads)
