"""Channels insist on timeouts, pass ids on and retry only what may be retried."""

import grpc
import pytest
import structlog
from google.protobuf.wrappers_pb2 import StringValue

from specbeam.draft.v1alpha1 import draft_service_pb2
from specbeam.recommend.v1 import recommend_service_pb2
from specbeam.recommend.v1.recommend_service_pb2_grpc import (
    RecommendServiceServicer,
    RecommendServiceStub,
    add_RecommendServiceServicer_to_server,
)
from specbeam.runtime.channel import MissingTimeoutError, create_channel, retry_config
from specbeam.runtime.context import set_request_id
from specbeam.runtime.errors import Overloaded, Unavailable
from specbeam.runtime.options import channel_options, server_options
from specbeam.runtime.server import bind, create_server

SERVICE = recommend_service_pb2.DESCRIPTOR.services_by_name["RecommendService"]
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Failing(RecommendServiceServicer):
    """Fails a number of times, then answers."""

    def __init__(self, failures):
        self.failures = list(failures)
        self.attempts = 0

    async def GetInfo(self, request, context):
        self.attempts += 1
        if self.failures:
            raise self.failures.pop()
        return recommend_service_pb2.GetInfoResponse(version="x")


@pytest.fixture
async def call_failing():
    servers = []

    async def call(failures, retry=(SERVICE,)):
        servicer = Failing(failures)
        servers.append(server := create_server())
        add_RecommendServiceServicer_to_server(servicer, server)
        port = bind(server, "127.0.0.1", 0)
        await server.start()
        async with create_channel(f"127.0.0.1:{port}", retry=retry) as channel:
            call = RecommendServiceStub(channel).GetInfo
            try:
                await call(recommend_service_pb2.GetInfoRequest(), timeout=10)
                return servicer.attempts, grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                return servicer.attempts, error.code()

    yield call
    for server in servers:
        await server.stop(None)


@pytest.mark.parametrize("kind", KINDS)
async def test_call_without_timeout_is_refused(echo_channel, echo_client, kind):
    with pytest.raises(MissingTimeoutError, match=kind):
        echo_client.method(kind)(StringValue())


async def test_request_id_is_passed_on(echo_client):
    set_request_id("from-caller")
    with structlog.testing.capture_logs() as logs:
        await echo_client.call("unary_unary")
    assert logs[0]["request_id"] == "from-caller"


async def test_unavailable_is_retried_twice(call_failing):
    assert await call_failing([Unavailable()] * 2) == (3, grpc.StatusCode.OK)
    assert await call_failing([Unavailable()] * 9) == (3, grpc.StatusCode.UNAVAILABLE)


async def test_nothing_is_retried_by_default(call_failing):
    assert await call_failing([Unavailable()], retry=()) == (1, grpc.StatusCode.UNAVAILABLE)


async def test_other_errors_are_not_retried(call_failing):
    assert await call_failing([Overloaded()]) == (1, grpc.StatusCode.RESOURCE_EXHAUSTED)


async def test_pushback_delays_the_retry(call_failing):
    attempts, code = await call_failing([Unavailable(retry_after_s=0.05)])
    assert (attempts, code) == (2, grpc.StatusCode.OK)


def test_sessions_are_never_in_the_retry_config():
    service = draft_service_pb2.DESCRIPTOR.services_by_name["DraftService"]
    config = retry_config([service])
    assert '"GetInfo"' in config
    assert '"Draft"' not in config


async def test_message_limit_holds_on_both_sides(echo, echo_caller):
    server = create_server(max_message_bytes=100_000)
    server.add_generic_rpc_handlers((echo.handlers(),))
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    async with create_channel(f"127.0.0.1:{port}") as channel:
        client = echo_caller(channel)
        assert len(await client.call("unary_unary", "x" * 99_000)) == 99_000
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("unary_unary", "x" * 101_000)
    await server.stop(None)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_five_megabytes_pass_by_default(echo_client):
    assert len(await echo_client.call("unary_unary", "x" * 5_000_000)) == 5_000_000


def test_keepalive_of_clients_is_slower_than_servers_allow():
    client, server = dict(channel_options()), dict(server_options())
    allowed = server["grpc.http2.min_ping_interval_without_data_ms"]
    assert client["grpc.keepalive_time_ms"] >= allowed
