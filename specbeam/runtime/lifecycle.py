"""A service through its life: bind, serve, warm up, turn ready, drain, stop."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from specbeam.runtime.health import Health, Readiness
from specbeam.runtime.server import Closer, bind, create_server, enable_reflection, serve
from specbeam.runtime.settings import ServiceSettings


@dataclass(slots=True)
class ServiceApp:
    """One service of this process.

    Either `run` it until a signal comes (a process of its own), or `start` and `stop` it
    (several services in one process, tests).

    Attributes:
        server: Bound server with its services added and `health` registered.
        health: Its health; turns ready through the callable it was made with.
        port: Port it listens on.
        warm_up: What to do between the first answered health check and readiness.
        closers: What to close once no call runs any more, in order.
        drain_delay_s: Seconds to keep serving after the signal.
        grace_s: Seconds running calls have to finish.
    """

    server: grpc.aio.Server
    health: Health
    port: int
    warm_up: Callable[[], Awaitable[None]]
    closers: Sequence[Closer]
    drain_delay_s: float
    grace_s: float
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _serving: "asyncio.Task[None] | None" = None

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT.

        Raises:
            Exception: Whatever the warm-up raised; the server is shut down then.
        """
        await self._serve_and_warm_up(signals=True)
        # Models and stubs live as long as the process: no collection need look at them again.
        gc.collect()
        gc.freeze()
        if self._serving is not None:
            await self._serving

    async def start(self) -> None:
        """Serve in the background; returns once the service is ready.

        Raises:
            Exception: Whatever the warm-up raised; the server is shut down then.
        """
        await self._serve_and_warm_up(signals=False)

    async def stop(self) -> None:
        """Shut down at once: running calls have the grace, there is no drain delay."""
        self._stop.set()
        if self._serving is not None:
            await self._serving

    async def _serve_and_warm_up(self, *, signals: bool) -> None:
        started = asyncio.Event()
        self._serving = asyncio.create_task(
            serve(
                self.server,
                self.health,
                closers=self.closers,
                drain_delay_s=self.drain_delay_s if signals else 0.0,
                grace_s=self.grace_s,
                stop=None if signals else self._stop,
                started=started.set,
            ),
            name="serve",
        )
        warming = asyncio.create_task(self._warm_up_after(started), name="warm-up")
        try:
            # A signal during the warm-up ends `serve` first.
            await asyncio.wait({self._serving, warming}, return_when=asyncio.FIRST_COMPLETED)
            if warming.done():
                warming.result()
            else:
                await self._serving
        except BaseException:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
            raise
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)

    async def _warm_up_after(self, started: asyncio.Event) -> None:
        await started.wait()
        await self.warm_up()
        await self.health.refresh()


@dataclass(frozen=True, slots=True)
class BoundServer:
    """A server that has its port and not yet its services.

    Binding comes first: a taken port is told before a model is loaded.

    Attributes:
        server: The server; add the service to it, then make the `app`.
        port: Port it will listen on.
        settings: Of the service.
    """

    server: grpc.aio.Server
    port: int
    settings: ServiceSettings

    @classmethod
    def bind(cls, settings: ServiceSettings) -> Self:
        """Make a server and bind it. Call it inside the running loop.

        Raises:
            PortInUse: The port is taken.
        """
        server = create_server(
            max_message_bytes=settings.max_message_bytes,
            max_concurrent_rpcs=settings.max_concurrent_rpcs,
        )
        return cls(server, bind(server, settings.host, settings.port), settings)

    async def app(
        self,
        service: ServiceDescriptor,
        *,
        ready: Readiness,
        warm_up: Callable[[], Awaitable[None]],
        closers: Sequence[Closer],
    ) -> ServiceApp:
        """Return the service with its health and reflection.

        Args:
            service: The gRPC service that was added to the server.
            ready: Says whether the service can do its job now.
            warm_up: See `ServiceApp`.
            closers: See `ServiceApp`.
        """
        health = Health([service.full_name], ready)
        await health.register(self.server)
        if self.settings.reflection:
            enable_reflection(self.server, [service.full_name])
        return ServiceApp(
            server=self.server,
            health=health,
            port=self.port,
            warm_up=warm_up,
            closers=closers,
            drain_delay_s=self.settings.drain_delay_s,
            grace_s=self.settings.grace_s,
        )
