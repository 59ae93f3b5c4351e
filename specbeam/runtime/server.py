"""Making, binding and running an aio server, and shutting it down without losing calls."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Final

import grpc
import structlog
from grpc_health.v1.health import SERVICE_NAME as HEALTH_SERVICE
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION_SERVICE
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from specbeam.runtime.health import Health
from specbeam.runtime.interceptors import RpcInterceptor
from specbeam.runtime.options import DEFAULT_MAX_MESSAGE_BYTES, server_options

DEFAULT_DRAIN_DELAY_S: Final = 5.0
DEFAULT_GRACE_S: Final = 10.0

Closer = Callable[[], Awaitable[None]]

_log = structlog.get_logger("specbeam.server")


class PortInUse(ConnectionError):
    """The address cannot be listened on, mostly because another process does."""

    def __init__(self, address: str, why: str = "is another process using the port?") -> None:
        super().__init__(f"cannot listen on {address}: {why}")
        self.address = address


def create_server(
    *,
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
    max_concurrent_rpcs: int | None = None,
    interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
) -> grpc.aio.Server:
    """Return a server that is not bound yet. Call it inside the running loop.

    Args:
        max_message_bytes: Largest message sent or received, bytes.
        max_concurrent_rpcs: Calls beyond this many at once are refused with
            RESOURCE_EXHAUSTED; health and reflection calls count. None = no limit.
        interceptors: Put outside the one that translates errors.
    """
    return grpc.aio.server(
        interceptors=(*interceptors, RpcInterceptor()),
        options=server_options(max_message_bytes),
        maximum_concurrent_rpcs=max_concurrent_rpcs,
    )


def bind(server: grpc.aio.Server, host: str, port: int) -> int:
    """Bind the server without TLS and return its port.

    Args:
        server: A server that has not started.
        host: Address of an interface; ``0.0.0.0`` for all.
        port: Port, 0 for any free one.

    Raises:
        PortInUse: The address cannot be listened on.
    """
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    _try_to_bind(host, port, address)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError as error:
        raise PortInUse(address) from error
    if bound == 0:
        raise PortInUse(address)
    return bound


def _try_to_bind(host: str, port: int, address: str) -> None:
    """Raise PortInUse with the reason, which gRPC only prints."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(address) from error
        raise PortInUse(address, str(error.strerror)) from error


def enable_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Let clients such as grpcurl ask which services and messages there are.

    Args:
        server: A server that has not started.
        services: Full names of the services added to it.
    """
    names = (*services, HEALTH_SERVICE, REFLECTION_SERVICE)
    enable_server_reflection(names, server)


async def serve(
    server: grpc.aio.Server,
    health: Health,
    *,
    closers: Sequence[Closer] = (),
    drain_delay_s: float = DEFAULT_DRAIN_DELAY_S,
    grace_s: float = DEFAULT_GRACE_S,
    stop: asyncio.Event | None = None,
    started: Callable[[], None] | None = None,
) -> None:
    """Run a bound server until it is told to stop, then shut it down.

    Shutting down: health NOT_SERVING; keep serving for the drain delay, because load
    balancers learn of it late; refuse new calls and finish running ones within the
    grace; then the closers, in order, each even if one before it failed.

    Args:
        server: Bound server with its services added and `health` registered.
        health: Its health.
        closers: What to close once no call runs any more.
        drain_delay_s: Seconds to keep serving after SIGTERM or `stop`. SIGINT, or a
            second signal, skips them.
        grace_s: Seconds running calls have to finish.
        stop: Set it to stop the server. When given, no signal handler is installed.
        started: Called once the server accepts calls.
    """
    stopping = _Stopping(stop)
    with contextlib.nullcontext() if stop is not None else stopping.on_signals():
        try:
            await server.start()
            await health.start()
            if started is not None:
                started()
            await stopping.wait()
            _log.info("draining", drain_delay_s=drain_delay_s, grace_s=grace_s)
            await health.drain()
            await stopping.linger(drain_delay_s)
        finally:
            await health.close()
            await server.stop(grace_s)
            await _close_all(closers)
            _log.info("stopped")


async def _close_all(closers: Sequence[Closer]) -> None:
    for closer in closers:
        try:
            await closer()
        except Exception as error:
            _log.error("close_failed", closer=repr(closer), exc_info=error)


class _Stopping:
    """When to stop, and whether to hurry."""

    def __init__(self, stop: asyncio.Event | None) -> None:
        self._stop = stop or asyncio.Event()
        self._hurry = asyncio.Event()

    @contextlib.contextmanager
    def on_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set() or number == signal.SIGINT:
            self._hurry.set()
        self._stop.set()

    async def wait(self) -> None:
        await self._stop.wait()

    async def linger(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), delay_s)
