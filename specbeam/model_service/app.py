"""Puts a model service together, for a process of its own or inside another one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor

from specbeam.bundle import BundleError
from specbeam.catalog import FilterCompiler
from specbeam.engine.cost import default_cache_dir, find_costs
from specbeam.engine.threads import cpu_threads, set_threads
from specbeam.model_service.host import Model, ModelHost
from specbeam.model_service.settings import ModelServiceSettings
from specbeam.runtime.device_thread import DeviceThread
from specbeam.runtime.lifecycle import BoundServer, ServiceApp
from specbeam.runtime.slots import SlotGate, SlotKeeper


@dataclass(frozen=True, slots=True)
class ModelService(Generic[Model]):
    """What makes a model service the one it is.

    Attributes:
        name: Short name, for logs and threads.
        descriptor: Its gRPC service.
        load: Loads the model; called on the thread that will own the device.
        self_test: Raises when the model does not work on this machine; called there, too.
        add: Adds the servicer to a server.
        max_rows: Rows of the largest pass to measure.
    """

    name: str
    descriptor: ServiceDescriptor
    load: Callable[[], Model]
    self_test: Callable[[Model], None]
    add: Callable[[ModelHost[Model], grpc.aio.Server], None]
    max_rows: int


async def build_model_app(
    settings: ModelServiceSettings, service: ModelService[Model]
) -> ServiceApp:
    """Bind the port and load the model.

    Raises:
        BundleError: The bundle cannot be served.
        PortInUse: The port is taken.
    """
    bound = BoundServer.bind(settings)
    threads = cpu_threads(settings.threads)
    device = DeviceThread(f"{service.name}-device", lambda: set_threads(threads))
    await device.start()
    try:
        model = await device.run(_load, settings, service)
    except BaseException:
        await device.close()
        await bound.server.stop(None)
        raise
    slots = SlotKeeper(SlotGate(settings.slots, settings.max_waiting), device)
    filters = FilterCompiler(model.bundle.trie, settings.filter_cache_mb << 20)
    host = ModelHost(model, device, slots, filters, threads, settings.default_deadline_s)
    service.add(host, bound.server)
    return await bound.app(
        service.descriptor,
        ready=lambda: host.ready,
        warm_up=lambda: _warm_up(host, settings, service),
        closers=(slots.drain, device.close),
    )


def _load(settings: ModelServiceSettings, service: ModelService[Model]) -> Model:
    try:
        return service.load()
    except BundleError as error:
        raise BundleError(
            [f"{settings.bundle}: {problem}" for problem in error.problems]
        ) from error


async def _warm_up(
    host: ModelHost[Model], settings: ModelServiceSettings, service: ModelService[Model]
) -> None:
    model, log = host.model, structlog.get_logger(f"specbeam.{service.name}")
    await host.device.run(service.self_test, model)
    cache_dir = settings.cache_dir or default_cache_dir()
    host.costs, problem = await host.device.run(
        lambda: find_costs(
            model.runner,
            model.fingerprint,
            threads=host.threads,
            max_rows=service.max_rows,
            cache_dir=cache_dir,
            budget_s=settings.warm_up_s,
        )
    )
    if problem is not None:
        log.warning("costs_not_kept", directory=str(cache_dir), error=str(problem))
    host.ready = True
    name = model.bundle.manifest.name
    log.info("ready", bundle=name, model=model.fingerprint, threads=host.threads)
