"""A servicer on a port of its own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    RecommendServiceServicer,
    add_RecommendServiceServicer_to_server,
)
from specbeam.runtime.server import bind, create_server


@asynccontextmanager
async def serving(service: RecommendServiceServicer) -> AsyncIterator[str]:
    """Yield the address."""
    server = create_server()
    add_RecommendServiceServicer_to_server(service, server)
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    yield f"127.0.0.1:{port}"
    await server.stop(None)
