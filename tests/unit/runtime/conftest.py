"""A small service of all four RPC kinds, on a real server."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from specbeam.runtime.channel import create_channel, session
from specbeam.runtime.server import bind, create_server

SERVICE = "test.Echo"


@dataclass
class Echo:
    """Answers with its input, or does what `fault` says first."""

    fault: Callable[[], Any] | None = None
    contexts: list[Any] = field(default_factory=list)
    cleaned_up: asyncio.Event = field(default_factory=asyncio.Event)

    async def _break(self) -> None:
        if self.fault is not None:
            result = self.fault()
            if asyncio.iscoroutine(result):
                await result

    async def unary_unary(self, request: StringValue, context: Any) -> StringValue:
        self.contexts.append(context)
        try:
            await self._break()
            return StringValue(value=request.value)
        finally:
            self.cleaned_up.set()

    async def unary_stream(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        try:
            for part in request.value:
                yield StringValue(value=part)
            await self._break()
        finally:
            self.cleaned_up.set()

    async def stream_unary(self, requests: AsyncIterator[StringValue], context: Any) -> StringValue:
        value = "".join([request.value async for request in requests])
        await self._break()
        return StringValue(value=value)

    async def stream_stream(
        self, requests: AsyncIterator[StringValue], context: Any
    ) -> AsyncIterator[StringValue]:
        try:
            async for request in requests:
                yield StringValue(value=request.value)
                await self._break()
        finally:
            self.cleaned_up.set()

    def handlers(self) -> grpc.GenericRpcHandler:
        kinds = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                kind: getattr(grpc, f"{kind}_rpc_method_handler")(
                    getattr(self, kind),
                    request_deserializer=StringValue.FromString,
                    response_serializer=StringValue.SerializeToString,
                )
                for kind in kinds
            },
        )


class EchoClient:
    """Calls each kind and returns what came back as one string."""

    def __init__(self, channel: grpc.aio.Channel, serialize: Any = None) -> None:
        self._channel = channel
        self._serialize = serialize or StringValue.SerializeToString

    def method(self, kind: str) -> Any:
        return getattr(self._channel, kind)(
            f"/{SERVICE}/{kind}",
            request_serializer=self._serialize,
            response_deserializer=StringValue.FromString,
        )

    async def call(
        self, kind: str, text: str = "abc", *, timeout_s: float = 10, **kwargs: Any
    ) -> str:
        async def parts() -> AsyncIterator[Any]:
            for part in text:
                yield StringValue(value=part)

        streaming_request, streaming_response = (s == "stream" for s in kind.split("_"))
        request = parts() if streaming_request else StringValue(value=text)
        call = self.method(kind)(request, timeout=timeout_s, **kwargs)
        if not streaming_response:
            return (await call).value
        async with session(call):
            return "".join([response.value async for response in call])


@pytest.fixture
async def echo() -> Echo:
    return Echo()


@pytest.fixture
async def echo_port(echo: Echo) -> AsyncIterator[int]:
    server = create_server()
    server.add_generic_rpc_handlers((echo.handlers(),))
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield port
    await server.stop(None)


@pytest.fixture
async def echo_channel(echo_port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with create_channel(f"127.0.0.1:{echo_port}") as channel:
        yield channel


@pytest.fixture
async def echo_client(echo_channel: grpc.aio.Channel) -> EchoClient:
    return EchoClient(echo_channel)


@pytest.fixture
async def garbling_client(echo_channel: grpc.aio.Channel) -> EchoClient:
    """Sends bytes that are no message."""
    return EchoClient(echo_channel, serialize=lambda message: b"\xff\xff\xff")


@pytest.fixture
def echo_caller() -> type[EchoClient]:
    """Makes clients for channels of a test's own."""
    return EchoClient


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], Awaitable[None]]:
    """Wait until a condition holds."""

    async def wait(condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 (the condition has no event)
                await asyncio.sleep(0.005)

    return wait
