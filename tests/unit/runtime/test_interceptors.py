"""Every kind of RPC answers errors cleanly and leaks nothing."""

import asyncio

import grpc
import pytest
import structlog

from specbeam.runtime.errors import (
    DOMAIN,
    InvalidRequest,
    Overloaded,
    UnknownBundle,
    Violation,
)
from specbeam.runtime.status import PUSHBACK_KEY, decode_error

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
every_kind = pytest.mark.parametrize("kind", KINDS)


def raiser(error: BaseException):
    def fault():
        raise error

    return fault


async def failed(client, kind, text="a"):
    # One message: gRPC's client hides the status of a call it is still writing to.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(kind, text)
    return caught.value


@every_kind
async def test_answers_pass_unchanged(echo_client, kind):
    assert await echo_client.call(kind, "hello") == "hello"


@every_kind
async def test_specbeam_error_becomes_a_status_with_details(echo, echo_client, kind):
    echo.fault = raiser(UnknownBundle("no bundle 'b'", metadata={"bundle": "b"}))
    failure = decode_error(await failed(echo_client, kind))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert failure.message == "no bundle 'b'"
    assert (failure.reason, failure.domain) == ("UNKNOWN_BUNDLE", DOMAIN)
    assert failure.metadata == {"bundle": "b"}
    assert failure.retry_after_s is None


async def test_every_violation_is_reported(echo, echo_client):
    violations = [Violation("num_items", "too large"), Violation("events[3].item_id", "empty")]
    echo.fault = raiser(InvalidRequest(violations))
    failure = decode_error(await failed(echo_client, "unary_unary"))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.violations == tuple(violations)
    assert failure.message == "num_items: too large (and 1 more)"


async def test_many_long_violations_still_fit_into_the_trailers(echo, echo_client):
    echo.fault = raiser(InvalidRequest([Violation(f"f[{i}]", "x" * 999) for i in range(999)]))
    failure = decode_error(await failed(echo_client, "unary_unary"))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.violations[-1].description.endswith("more")


async def test_overload_carries_retry_info_and_pushback(echo, echo_client):
    echo.fault = raiser(Overloaded(retry_after_s=0.25))
    error = await failed(echo_client, "unary_unary")
    assert decode_error(error).retry_after_s == 0.25
    assert dict(error.trailing_metadata())[PUSHBACK_KEY] == "250"


@every_kind
async def test_unknown_exception_leaks_nothing_and_is_logged(echo, echo_client, kind):
    secret = ValueError("secret-path /etc/passwd")
    echo.fault = raiser(secret)
    with structlog.testing.capture_logs() as logs:
        error = await failed(echo_client, kind)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert error.details() == "internal error"
    assert "secret" not in str(error.trailing_metadata())
    assert [line["exc_info"] for line in logs if line["event"] == "rpc_failed"] == [secret]


async def test_single_error_in_a_group_is_answered_as_itself(echo, echo_client):
    echo.fault = raiser(ExceptionGroup("tasks", [Overloaded()]))
    assert (await failed(echo_client, "unary_unary")).code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@every_kind
async def test_unparsable_message_is_invalid_argument(garbling_client, kind):
    error = await failed(garbling_client, kind)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert decode_error(error).reason == "INVALID_REQUEST"


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_stream"])
async def test_cancelled_call_reaches_the_handler(echo, echo_client, until, kind):
    started = asyncio.Event()

    async def hang():
        started.set()
        await asyncio.Event().wait()

    echo.fault = hang
    with structlog.testing.capture_logs() as logs:
        task = asyncio.create_task(echo_client.call(kind))
        await started.wait()
        task.cancel()
        await asyncio.wait_for(echo.cleaned_up.wait(), 5)
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: any(line["event"] == "rpc" for line in logs))
    assert [line["code"] for line in logs if line["event"] == "rpc"] == ["CANCELLED"]


async def test_session_cancelled_before_its_first_answer_ends_on_the_server(echo, echo_client):
    # Without `session` about one in twenty of these goes on until its deadline.
    for _ in range(50):
        started = asyncio.Event()
        echo.cleaned_up = asyncio.Event()

        async def hang(started=started):
            started.set()
            await asyncio.Event().wait()

        echo.fault = hang
        task = asyncio.create_task(echo_client.call("stream_stream"))
        await started.wait()
        task.cancel()
        await asyncio.wait_for(echo.cleaned_up.wait(), 5)
        await asyncio.gather(task, return_exceptions=True)


async def test_access_line_has_method_code_time_and_request_id(echo_client, until):
    with structlog.testing.capture_logs() as logs:
        await echo_client.call("unary_unary", metadata=(("x-request-id", "r-1"),))
        await until(lambda: logs)
    (line,) = logs
    assert line["event"] == "rpc"
    assert line["method"] == "/test.Echo/unary_unary"
    assert line["code"] == "OK"
    assert line["request_id"] == "r-1"
    # A virtual clock may be off by more than the call takes.
    assert 8 < line["deadline_s"] < 12
    assert line["ms"] >= 0


@pytest.mark.parametrize("given", ["x" * 65, "a b", "a/b"])
async def test_malformed_request_id_is_replaced(echo_client, until, given):
    with structlog.testing.capture_logs() as logs:
        await echo_client.call("unary_unary", metadata=(("x-request-id", given),))
        await until(lambda: logs)
    assert len(logs[0]["request_id"]) == 32


async def test_own_abort_of_a_handler_passes(echo, echo_client):
    async def abort():
        await echo.contexts[-1].abort(grpc.StatusCode.ABORTED, "again")

    echo.fault = abort
    with structlog.testing.capture_logs() as logs:
        error = await failed(echo_client, "unary_unary")
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "again")
    assert logs[0]["code"] == "ABORTED"


async def test_cause_is_logged_but_not_answered(echo, echo_client):
    async def fail():
        raise Overloaded() from ValueError("queue of host-7")

    echo.fault = fail
    with structlog.testing.capture_logs() as logs:
        error = await failed(echo_client, "unary_unary")
    assert "host-7" in logs[0]["cause"]
    assert "host-7" not in str((error.details(), error.trailing_metadata()))
