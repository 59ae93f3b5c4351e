"""Truthful health: NOT_SERVING until ready, liveness apart from readiness."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

# Asked by liveness probes: says only that the event loop turns.
LIVENESS_SERVICE: Final = "liveness"
DEFAULT_INTERVAL_S: Final = 1.0

Readiness = Callable[[], bool | Awaitable[bool]]

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_log = structlog.get_logger("specbeam.health")


class _HealthServicer(health.aio.HealthServicer):
    """The standard servicer, whose watches end when the server shuts down.

    An open watch would otherwise hold `server.stop` for its whole grace.
    """

    def __init__(self) -> None:
        super().__init__()
        self.closing = asyncio.Event()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Any) -> None:
        """Stream status changes until the client leaves or the server closes."""
        watch = asyncio.create_task(super().Watch(request, context))
        closing = asyncio.create_task(self.closing.wait())
        try:
            await asyncio.wait((watch, closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            closing.cancel()
            await asyncio.gather(watch, closing, return_exceptions=True)


class Health:
    """Health of one server: each service follows one readiness callable.

    Before `start` and after `drain` everything but liveness is NOT_SERVING. A
    readiness callable that raises means not ready.
    """

    def __init__(
        self,
        services: Sequence[str],
        ready: Readiness,
        *,
        interval_s: float = DEFAULT_INTERVAL_S,
    ) -> None:
        """Prepare the health of `services`.

        Args:
            services: Full names, such as ``specbeam.target.v1alpha1.TargetService``.
            ready: Says whether the server can do its own job now. Must be quick.
            interval_s: Seconds between two calls of `ready`.
        """
        self._services = ("", *services)
        self._ready = ready
        self._interval_s = interval_s
        self._servicer = _HealthServicer()
        self._is_ready: bool | None = None
        self._poll: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the last look found the server ready."""
        return bool(self._is_ready)

    async def register(self, server: grpc.aio.Server) -> None:
        """Add the health service to a server that has not started, as NOT_SERVING."""
        for service in self._services:
            await self._servicer.set(service, _NOT_SERVING)
        await self._servicer.set(LIVENESS_SERVICE, _SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        """Look once, then keep looking."""
        await self.refresh()
        self._poll = asyncio.create_task(self._poll_forever(), name="health")

    async def refresh(self) -> bool:
        """Look now; return whether the server is ready."""
        try:
            answer = self._ready()
            ready = bool(await answer) if inspect.isawaitable(answer) else bool(answer)
        except Exception as error:
            ready = False
            if self._is_ready is not False:
                _log.warning("readiness_failed", exc_info=error)
        if ready != self._is_ready:
            _log.info("readiness_changed", ready=ready)
            self._is_ready = ready
            for service in self._services:
                await self._servicer.set(service, _SERVING if ready else _NOT_SERVING)
        return ready

    async def drain(self) -> None:
        """Turn NOT_SERVING for good and stop looking."""
        await self._stop_polling()
        self._is_ready = False
        await self._servicer.enter_graceful_shutdown()

    async def close(self) -> None:
        """End every open watch."""
        await self._stop_polling()
        self._servicer.closing.set()

    async def _poll_forever(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self.refresh()

    async def _stop_polling(self) -> None:
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None
