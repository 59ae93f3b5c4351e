"""The one server interceptor: request id, access log, errors as statuses.

Response streams must be written as async generators; a handler that calls
``context.write`` is refused when it is called.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeAlias

import grpc
import structlog

from specbeam.runtime.context import REQUEST_ID_KEY, set_request_id
from specbeam.runtime.errors import (
    Internal,
    InvalidRequest,
    SpecbeamError,
    Violation,
    find_specbeam_error,
)
from specbeam.runtime.status import encode_error

_Context = grpc.aio.ServicerContext[Any, Any]
# Quoted: generic for the type checker only.
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_MaybeHandler: TypeAlias = "_Handler | None"

# Health and reflection: their handlers write by themselves and need no access log.
_UNTOUCHED_PREFIX = "/grpc."

_log = structlog.get_logger("specbeam.rpc")


class RpcInterceptor(grpc.aio.ServerInterceptor):
    """Gives each RPC a request id, one access line and a clean status.

    A `SpecbeamError` becomes a status with details. Any other exception is logged and
    answered with a fixed INTERNAL text: neither its class nor its message gets out. A
    message that cannot be parsed is INVALID_ARGUMENT.
    """

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _MaybeHandler:
        """Wrap the handler that gRPC chose; health and reflection stay as they are."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_UNTOUCHED_PREFIX):
            return handler
        return _wrap(handler, method)


@dataclass(frozen=True, slots=True)
class _Undecodable:
    """Stands for a request message that could not be parsed."""

    error: Exception


def _wrap(handler: _Handler, method: str) -> _Handler:
    behavior = _behavior_of(handler)
    encode = handler.response_serializer or _same

    async def unary(request: Any, context: _Context) -> bytes:
        async with _Rpc(method, context):
            result: bytes = encode(await behavior(_checked(request), context))
            return result

    async def stream(request: Any, context: _Context) -> AsyncIterator[bytes]:
        async with (
            _Rpc(method, context),
            contextlib.aclosing(_as_generator(behavior(_checked(request), context))) as responses,
        ):
            async for response in responses:
                yield encode(response)

    make = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[handler.request_streaming, handler.response_streaming]
    decode = _decoder(handler.request_deserializer or _same)
    # Responses are serialised above, so that a failure there is answered cleanly too.
    wrapped: _Handler = make(
        stream if handler.response_streaming else unary,
        request_deserializer=decode,
        response_serializer=None,
    )
    return wrapped


def _behavior_of(handler: _Handler) -> Callable[[Any, _Context], Any]:
    candidates = (
        handler.unary_unary,
        handler.unary_stream,
        handler.stream_unary,
        handler.stream_stream,
    )
    behavior: Callable[[Any, Any], Any] = next(c for c in candidates if c is not None)
    return behavior


def _same(value: Any) -> Any:
    return value


def _decoder(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(data: bytes) -> Any:
        # gRPC would answer a parser's exception with its text: hand it on instead.
        try:
            return deserialize(data)
        except Exception as error:
            return _Undecodable(error)

    return decode


def _checked(request: Any) -> Any:
    return _checked_stream(request) if hasattr(request, "__aiter__") else _check(request)


def _check(message: Any) -> Any:
    if isinstance(message, _Undecodable):
        violation = Violation("(message)", "cannot be parsed as the type this RPC takes")
        raise InvalidRequest([violation]) from message.error
    return message


async def _checked_stream(messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _check(message)


def _as_generator(responses: Any) -> Any:
    if not hasattr(responses, "aclose") or not hasattr(responses, "__aiter__"):
        close = getattr(responses, "close", None)
        if close is not None:
            close()
        raise TypeError("a response stream must be an async generator")
    return responses


def _code_name(code: Any) -> str:
    # An aborted aio context holds the number of the code, not the enum member.
    names = {member.value[0]: member.name for member in grpc.StatusCode}
    return code.name if isinstance(code, grpc.StatusCode) else names.get(code, str(code))


class _Rpc:
    """Scope of one RPC: binds the request id, logs the outcome, answers errors."""

    def __init__(self, method: str, context: _Context) -> None:
        self._method = method
        self._context = context
        self._start = 0.0
        self._request_id = ""
        self._peer = ""
        self._deadline_s: float | None = None

    async def __aenter__(self) -> None:
        self._start = time.monotonic()
        # Read while the call is alive: asked for after a cancel it can crash the process (1.85.1).
        self._peer = self._context.peer()
        self._deadline_s = self._context.time_remaining()
        metadata = dict(self._context.invocation_metadata() or ())
        self._request_id = set_request_id(metadata.get(REQUEST_ID_KEY))
        structlog.contextvars.bind_contextvars(request_id=self._request_id)
        self._context.set_trailing_metadata(((REQUEST_ID_KEY, self._request_id),))

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            # After the answer is on its way.
            asyncio.get_running_loop().call_soon(self._log_line, "OK", None, time.monotonic())
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            self._log_line("CANCELLED")
        elif isinstance(error, grpc.aio.AbortError):
            self._log_line(_code_name(self._context.code()))
        elif isinstance(error, Exception):
            await self._answer(error)

    async def _answer(self, error: Exception) -> None:
        answer = find_specbeam_error(error)
        if answer is None:
            _log.error("rpc_failed", method=self._method, exc_info=error)
            answer = Internal(metadata={"request_id": self._request_id})
        elif isinstance(answer, Internal):
            _log.error("rpc_failed", method=self._method, exc_info=error)
        self._log_line(answer.status, answer)
        code, message, trailing = encode_error(answer)
        await self._context.abort(code, message, ((REQUEST_ID_KEY, self._request_id), *trailing))

    def _log_line(
        self, code: str, error: SpecbeamError | None = None, end: float | None = None
    ) -> None:
        end = time.monotonic() if end is None else end
        fields: dict[str, Any] = {
            "method": self._method,
            "code": code,
            "ms": round((end - self._start) * 1000, 3),
            "deadline_s": self._deadline_s,
            "peer": self._peer,
            "request_id": self._request_id,
        }
        if error is not None:
            fields.update(reason=error.reason, message=error.message)
            if error.__cause__ is not None:
                fields["cause"] = repr(error.__cause__)
        _log.info("rpc", **fields)
