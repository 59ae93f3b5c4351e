"""Errors as gRPC statuses with details, and back."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import (  # type: ignore[import-untyped]
    code_pb2,
    error_details_pb2,
    status_pb2,
)
from grpc_status import rpc_status

from specbeam.runtime.context import REQUEST_ID_KEY
from specbeam.runtime.errors import DOMAIN, SpecbeamError, Violation

PUSHBACK_KEY = "grpc-retry-pushback-ms"
_DETAILS_KEY = "grpc-status-details-bin"

# Status details travel in trailers, whose soft limit is 8 kB with base64 on top.
_MAX_MESSAGE_CHARS = 300
_MAX_VALUE_CHARS = 200
_MAX_METADATA_ENTRIES = 8
_MAX_VIOLATION_BYTES = 2000

TrailingMetadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class RpcFailure:
    """What a failed call says about itself.

    Attributes:
        code: gRPC status code.
        message: Text of the status.
        reason: Stable name of the error, empty when the peer gave none.
        domain: Who defines the reason; ``specbeam.dev`` for ours.
        metadata: Values behind the message.
        violations: Rules the request breaks.
        retry_after_s: Seconds after which trying again makes sense, if given.
        request_id: Id of the request in the peer's logs, if given.
    """

    code: grpc.StatusCode
    message: str
    reason: str
    domain: str
    metadata: dict[str, str]
    violations: tuple[Violation, ...]
    retry_after_s: float | None
    request_id: str


def encode_error(error: SpecbeamError) -> tuple[grpc.StatusCode, str, TrailingMetadata]:
    """Return code, text and trailing metadata that answer `error`."""
    status = status_pb2.Status(
        code=code_pb2.Code.Value(error.status),
        message=_cut(error.message, _MAX_MESSAGE_CHARS),
    )
    metadata = list(error.metadata.items())[:_MAX_METADATA_ENTRIES]
    status.details.add().Pack(
        error_details_pb2.ErrorInfo(
            reason=error.reason,
            domain=DOMAIN,
            metadata={key: _cut(value, _MAX_VALUE_CHARS) for key, value in metadata},
        )
    )
    if error.violations:
        status.details.add().Pack(_encode_violations(error.violations))
    trailing: TrailingMetadata = ()
    if error.retry_after_s is not None:
        retry_info = error_details_pb2.RetryInfo()
        retry_info.retry_delay.FromMilliseconds(round(error.retry_after_s * 1000))
        status.details.add().Pack(retry_info)
        trailing = ((PUSHBACK_KEY, str(round(error.retry_after_s * 1000))),)
    rich = rpc_status.to_status(status)
    return rich.code, status.message, (*(rich.trailing_metadata or ()), *trailing)


def decode_error(error: grpc.RpcError) -> RpcFailure:
    """Return what `error`, raised by a call, says about itself.

    Details that cannot be read are left out: the code and the text remain.
    """
    # Plain pairs in aio, named pairs in sync calls.
    pairs = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    trailers = dict(pairs)
    status = _parse_status(trailers.get(_DETAILS_KEY, b""))
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry_info = error_details_pb2.RetryInfo()
    retry_after_s: float | None = None
    for detail in status.details:
        if detail.Is(info.DESCRIPTOR):
            detail.Unpack(info)
        elif detail.Is(bad_request.DESCRIPTOR):
            detail.Unpack(bad_request)
        elif detail.Is(retry_info.DESCRIPTOR):
            detail.Unpack(retry_info)
            retry_after_s = retry_info.retry_delay.ToMilliseconds() / 1000
    return RpcFailure(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        violations=tuple(Violation(v.field, v.description) for v in bad_request.field_violations),
        retry_after_s=retry_after_s,
        request_id=str(trailers.get(REQUEST_ID_KEY, "")),
    )


def _parse_status(data: str | bytes) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(data)
    except (DecodeError, TypeError):
        return status_pb2.Status()


def _encode_violations(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for number, violation in enumerate(violations):
        if bad_request.ByteSize() > _MAX_VIOLATION_BYTES:
            left = f"{len(violations) - number} more"
            bad_request.field_violations.add(field="...", description=left)
            break
        bad_request.field_violations.add(
            field=_cut(violation.field, _MAX_VALUE_CHARS),
            description=_cut(violation.description, _MAX_VALUE_CHARS),
        )
    return bad_request


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."
