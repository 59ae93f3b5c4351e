"""A bound service through its life: serve, warm up, turn ready, drain, stop."""

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import grpc

from specbeam.runtime.health import Health
from specbeam.runtime.server import Closer, serve


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
