"""Puts the target service together, for a process of its own or inside another one."""

import structlog

from specbeam.engine.cost import default_cache_dir, find_costs
from specbeam.engine.threads import cpu_threads, set_threads
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.health import Health
from specbeam.runtime.lifecycle import ServiceApp
from specbeam.runtime.server import bind, create_server, enable_reflection
from specbeam.runtime.slots import SlotGate, SlotKeeper
from specbeam.target.v1alpha1 import target_service_pb2, target_service_pb2_grpc
from target_service.model import TargetModel, load_target
from target_service.servicer import TargetServicer
from target_service.settings import TargetSettings
from target_service.warmup import check_search

SERVICE = target_service_pb2.DESCRIPTOR.services_by_name["TargetService"].full_name

_log = structlog.get_logger("specbeam.target")


async def start_app(settings: TargetSettings) -> ServiceApp:
    """Start the service in this process and return once it is ready; `stop` ends it.

    Raises:
        BundleError: The bundle cannot be served.
        PortInUse: The port is taken.
    """
    app = await build_app(settings)
    await app.start()
    return app


async def run(settings: TargetSettings) -> None:
    """Run the service until a signal ends it; raises as `start_app` does."""
    await (await build_app(settings)).run()


async def build_app(settings: TargetSettings) -> ServiceApp:
    """Bind the port and load the model; raises as `start_app` does."""
    server = create_server(
        max_message_bytes=settings.max_message_bytes,
        max_concurrent_rpcs=settings.max_concurrent_rpcs,
    )
    port = bind(server, settings.host, settings.port)
    threads = cpu_threads(settings.threads)
    device = DeviceThread("target-device", lambda: set_threads(threads))
    await device.start()
    try:
        model = await device.run(_load, settings)
    except BaseException:
        await device.close()
        await server.stop(None)
        raise
    slots = SlotKeeper(SlotGate(settings.slots, settings.max_waiting), device)
    servicer = TargetServicer(model, device, slots, settings, threads)
    target_service_pb2_grpc.add_TargetServiceServicer_to_server(servicer, server)
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


def _load(settings: TargetSettings) -> TargetModel:
    return load_target(
        settings.bundle,
        device=settings.device,
        dtype=settings.dtype,
        slots=settings.slots,
        max_rows=settings.max_rows,
        max_beam_width=settings.max_beam_width,
    )


async def _warm_up(
    servicer: TargetServicer,
    model: TargetModel,
    device: DeviceThread,
    settings: TargetSettings,
    threads: int,
) -> None:
    await device.run(check_search, model)
    cache_dir = settings.cache_dir or default_cache_dir()
    servicer.costs, problem = await device.run(
        lambda: find_costs(
            model.runner,
            model.bundle.manifest.fingerprints.model,
            threads=threads,
            max_rows=settings.max_rows,
            cache_dir=cache_dir,
            budget_s=settings.warm_up_s,
        )
    )
    if problem is not None:
        _log.warning("costs_not_kept", directory=str(cache_dir), error=str(problem))
    servicer.ready = True
    manifest = model.bundle.manifest
    _log.info("ready", bundle=manifest.name, model=manifest.fingerprints.model, threads=threads)
