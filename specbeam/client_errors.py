"""The errors the Python client raises."""

from typing import ClassVar

import grpc

from specbeam.runtime.errors import Violation
from specbeam.runtime.status import decode_error

__all__ = [
    "ClientError",
    "DeadlineError",
    "InvalidRequestError",
    "NotFoundError",
    "OverloadedError",
    "UnavailableError",
    "Violation",
    "client_error",
]


class ClientError(Exception):
    """A call failed.

    Attributes:
        code: Name of the gRPC status code, such as ``UNAVAILABLE``.
        reason: Stable name of the error, such as ``STORE_UNAVAILABLE``; empty when the
            failure did not come from the server.
        message: What the server says.
        metadata: Values behind the message.
        violations: Rules the request breaks.
        retry_after_s: Seconds after which trying again makes sense, if given.
        request_id: Id of the request in the server's logs; may be empty.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, error: grpc.RpcError) -> None:
        failure = decode_error(error)
        self.code = failure.code.name
        self.reason = failure.reason
        self.message = failure.message
        self.metadata = failure.metadata
        self.violations: tuple[Violation, ...] = failure.violations
        self.retry_after_s = failure.retry_after_s
        self.request_id = failure.request_id
        super().__init__(f"{self.reason or self.code}: {self.message}")


class InvalidRequestError(ClientError):
    """The request breaks a rule; see `violations`."""


class NotFoundError(ClientError):
    """Something that the request names does not exist."""


class OverloadedError(ClientError):
    """The server has too much to do; see `retry_after_s`."""

    retryable = True


class UnavailableError(ClientError):
    """The server, or something it needs, is out of reach for now."""

    retryable = True


class DeadlineError(ClientError):
    """There was no answer in time."""

    retryable = True


_CLASSES: dict[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
}


def client_error(error: grpc.RpcError) -> ClientError:
    """Return the error that a failed call is raised as."""
    return _CLASSES.get(error.code(), ClientError)(error)
