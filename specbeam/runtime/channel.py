"""Channels: one long-lived channel per peer, on which every call needs a timeout."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from specbeam.runtime.context import REQUEST_ID_KEY, current_request_id
from specbeam.runtime.options import DEFAULT_MAX_MESSAGE_BYTES, channel_options

C = TypeVar("C", bound=grpc.aio.Call)


class MissingTimeoutError(ValueError):
    """A call was made without a timeout; gRPC for Python inherits none."""

    def __init__(self, method: str) -> None:
        super().__init__(f"the call of {method} needs timeout=")


def retry_config(services: Sequence[ServiceDescriptor]) -> str:
    """Return a service config (JSON) that retries the unary methods of `services`.

    Only UNAVAILABLE is retried, at most twice, inside the call's own timeout, and
    never when the peer pushes back. Sessions (streams) are never retried.
    """
    unary = [
        {"service": service.full_name, "method": method.name}
        for service in services
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    ]
    policy = {
        "maxAttempts": 3,
        "initialBackoff": "0.02s",
        "maxBackoff": "0.2s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    return json.dumps(
        {
            "methodConfig": [{"name": unary, "retryPolicy": policy}] if unary else [],
            "retryThrottling": {"maxTokens": 100, "tokenRatio": 0.1},
        }
    )


def create_channel(
    target: str,
    *,
    retry: Sequence[ServiceDescriptor] = (),
    max_message_bytes: int = DEFAULT_MAX_MESSAGE_BYTES,
) -> grpc.aio.Channel:
    """Return a channel without TLS to `target`. Call it inside the running loop.

    Every call on it must be given ``timeout=`` and carries the id of the request
    that the calling task works for.

    Args:
        target: gRPC name, such as ``localhost:50053`` or ``dns:///target:50053``.
        retry: Services whose unary methods are idempotent and may be retried.
        max_message_bytes: Largest message sent or received, bytes.
    """
    options = (
        *channel_options(max_message_bytes),
        ("grpc.enable_retries", 1 if retry else 0),
        ("grpc.service_config", retry_config(retry)),
    )
    return DeadlineChannel(grpc.aio.insecure_channel(target, options=options))


@asynccontextmanager
async def session(call: C) -> AsyncIterator[C]:
    """Hold a streaming call for a block, and cancel it when the block ends.

    A task that is cancelled before its call's first answer has arrived leaves the call
    running in grpc.aio (1.85.1): the peer would hold its slot until the deadline. On a
    call that has ended this does nothing.

    Args:
        call: What a stub returned for a method with streams.
    """
    try:
        yield call
    finally:
        call.cancel()


class DeadlineChannel(grpc.aio.Channel):
    """A channel that refuses calls without a timeout and passes the request id on."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._channel.__aexit__(exc_type, exc_val, exc_tb)

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; running calls have `grace` seconds to finish."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of the connection."""
        return self._channel.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until the state of the connection differs."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until the channel is connected."""
        await self._channel.channel_ready()

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for one method."""
        return _guard(method, self._channel.unary_unary(method, *args, **kwargs))

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for one method."""
        return _guard(method, self._channel.unary_stream(method, *args, **kwargs))

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for one method."""
        return _guard(method, self._channel.stream_unary(method, *args, **kwargs))

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Return a callable for one method."""
        return _guard(method, self._channel.stream_stream(method, *args, **kwargs))


def _guard(method: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def guarded(
        request: Any = None,
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str | bytes]] | None = None,
        **kwargs: Any,
    ) -> Any:
        if timeout is None:
            raise MissingTimeoutError(method)
        pairs = tuple(metadata or ())
        request_id = current_request_id()
        if request_id and all(key != REQUEST_ID_KEY for key, _ in pairs):
            pairs = (*pairs, (REQUEST_ID_KEY, request_id))
        return call(request, timeout=timeout, metadata=pairs, **kwargs)

    return guarded
