"""Binding, health, reflection and shutting down, on real sockets."""

import asyncio
import contextlib
import os
import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from specbeam.runtime.channel import create_channel
from specbeam.runtime.health import LIVENESS_SERVICE, Health
from specbeam.runtime.server import PortInUse, bind, create_server, enable_reflection, serve

SERVICE = "test.Echo"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Running:
    """A served Echo and everything a test wants to do to it."""

    def __init__(self, echo, ready, **options):
        self.stop = asyncio.Event()
        self.started = asyncio.Event()
        self.closed = []
        self.echo = echo
        self.server = create_server()
        self.server.add_generic_rpc_handlers((echo.handlers(),))
        enable_reflection(self.server, [SERVICE])
        self.port = bind(self.server, "127.0.0.1", 0)
        self.health = Health([SERVICE], ready, interval_s=0.02)
        self.options = {"drain_delay_s": 0.0, "grace_s": 5.0, "stop": self.stop, **options}

    async def serve(self):
        await self.health.register(self.server)

        async def close_first():
            self.closed.append("first")
            raise ValueError("a closer that fails")

        async def close_second():
            self.closed.append("second")

        await serve(
            self.server,
            self.health,
            closers=(close_first, close_second),
            started=self.started.set,
            **self.options,
        )


@contextlib.asynccontextmanager
async def running(echo, ready=lambda: True, **options):
    app = Running(echo, ready, **options)
    task = asyncio.create_task(app.serve())
    await asyncio.wait_for(app.started.wait(), 5)
    async with create_channel(f"127.0.0.1:{app.port}") as channel:
        app.task, app.channel = task, channel
        app.stub = health_pb2_grpc.HealthStub(channel)
        try:
            yield app
        finally:
            app.stop.set()
            await asyncio.wait_for(task, 10)


async def status(app, service=""):
    request = health_pb2.HealthCheckRequest(service=service)
    return (await app.stub.Check(request, timeout=5)).status


async def test_second_server_on_a_port_is_refused(echo_port):
    with pytest.raises(PortInUse, match=f"127.0.0.1:{echo_port}"):
        bind(create_server(), "127.0.0.1", echo_port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
async def test_address_that_is_not_ours_is_refused_with_the_reason(host, capfd):
    with pytest.raises(PortInUse, match=f"cannot listen on {host}:0: [A-Z-]") as caught:
        bind(create_server(), host, 0)
    assert "another process" not in str(caught.value)
    assert capfd.readouterr().err == ""


async def test_health_is_not_serving_until_ready(echo, until):
    ready = False
    async with running(echo, lambda: ready) as app:
        for service in ("", SERVICE):
            assert await status(app, service) == NOT_SERVING
        assert await status(app, LIVENESS_SERVICE) == SERVING
        ready = True
        await until(lambda: app.health.is_ready)
        for service in ("", SERVICE):
            assert await status(app, service) == SERVING


async def test_unknown_service_has_no_health(echo):
    async with running(echo) as app:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await status(app, "no.Such")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_readiness_that_raises_means_not_ready(echo, until):
    answers = [True]

    async def ready():
        return answers[0] if answers else 1 / 0

    async with running(echo, ready) as app:
        assert await status(app) == SERVING
        answers.clear()
        await until(lambda: not app.health.is_ready)
        assert await status(app) == NOT_SERVING


async def test_watch_sees_changes_and_does_not_hold_up_the_stop(echo):
    seen = []
    async with running(echo, grace_s=30.0) as app:
        watch = app.stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE), timeout=20)
        seen.append((await watch.read()).status)
        app.stop.set()
        while (response := await watch.read()) is not grpc.aio.EOF:
            seen.append(response.status)
        await asyncio.wait_for(app.task, 5)
    assert seen == [SERVING, NOT_SERVING]


async def test_reflection_lists_the_services(echo):
    async with running(echo) as app:
        stub = reflection_pb2_grpc.ServerReflectionStub(app.channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = [r async for r in stub.ServerReflectionInfo(iter([request]), timeout=5)]
        names = {service.name for service in answer.list_services_response.service}
    assert names >= {SERVICE, "grpc.health.v1.Health"}


async def test_running_call_finishes_and_closers_run_after_it(echo, echo_caller, until):
    release = asyncio.Event()
    echo.fault = release.wait
    async with running(echo) as app:
        call = asyncio.create_task(echo_caller(app.channel).call("unary_unary", "late"))
        await until(lambda: echo.contexts)
        app.stop.set()
        await until(lambda: not app.health.is_ready)
        assert not app.closed
        release.set()
        assert await call == "late"
        await asyncio.wait_for(app.task, 5)
        assert app.closed == ["first", "second"]


async def test_call_beyond_the_grace_is_cancelled(echo, echo_caller, until):
    echo.fault = asyncio.Event().wait
    async with running(echo, grace_s=0.1) as app:
        call = asyncio.create_task(echo_caller(app.channel).call("unary_unary"))
        await until(lambda: echo.contexts)
        app.stop.set()
        with pytest.raises(grpc.aio.AioRpcError):
            await call
        await asyncio.wait_for(echo.cleaned_up.wait(), 5)


async def test_calls_are_served_during_the_drain_delay(echo, echo_caller):
    async with running(echo, drain_delay_s=0.3) as app:
        assert await status(app) == SERVING
        app.stop.set()
        await asyncio.sleep(0.05)
        assert await status(app) == NOT_SERVING
        assert await echo_caller(app.channel).call("unary_unary", "still") == "still"


@pytest.mark.parametrize(
    ("signals", "at_most_s"),
    [
        ([signal.SIGTERM], None),
        ([signal.SIGINT], 5.0),
        ([signal.SIGTERM, signal.SIGTERM], 5.0),
    ],
    ids=["TERM drains", "INT hurries", "TERM twice hurries"],
)
async def test_signals_stop_the_server(echo, signals, at_most_s):
    delay_s = 0.3 if at_most_s is None else 60.0
    async with running(echo, stop=None, drain_delay_s=delay_s) as app:
        start = asyncio.get_running_loop().time()
        for number in signals:
            os.kill(os.getpid(), number)
            await asyncio.sleep(0.02)
        await asyncio.wait_for(app.task, 10)
        took_s = asyncio.get_running_loop().time() - start
    assert took_s >= delay_s if at_most_s is None else took_s < at_most_s


async def test_excess_calls_are_refused_at_once(echo, echo_caller, until):
    release = asyncio.Event()
    echo.fault = release.wait
    server = create_server(max_concurrent_rpcs=1)
    server.add_generic_rpc_handlers((echo.handlers(),))
    port = bind(server, "127.0.0.1", 0)
    await server.start()
    async with create_channel(f"127.0.0.1:{port}") as channel:
        client = echo_caller(channel)
        first = asyncio.create_task(client.call("unary_unary"))
        await until(lambda: echo.contexts)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await client.call("unary_unary")
        release.set()
        await first
    await server.stop(None)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
