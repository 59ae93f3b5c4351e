"""The errors a service answers with.

Domain code raises them; one interceptor turns them into gRPC statuses. This module
imports no gRPC.

    SpecbeamError
    ├── InvalidRequest          INVALID_ARGUMENT     the request breaks a rule
    ├── NotFound                NOT_FOUND
    │   ├── UnknownBundle                            no such bundle is served
    │   └── UnknownUser                              no such user is stored
    ├── FingerprintMismatch     FAILED_PRECONDITION  another model, prompt or catalogue
    ├── Overloaded              RESOURCE_EXHAUSTED   too much work at once
    ├── LeaseExpired            ABORTED              a session sat idle too long
    ├── DeadlineSpent           DEADLINE_EXCEEDED    not enough time left
    ├── Unavailable             UNAVAILABLE
    │   ├── StoreUnavailable                         history store out of reach
    │   ├── TargetUnavailable                        target service out of reach
    │   ├── DraftUnavailable                         draft service out of reach
    │   └── Draining                                 this process is shutting down
    └── Internal                INTERNAL             a bug

The message of each error is public: it goes to the caller as it is. What must stay
inside belongs in the cause (`raise ... from error`), which is only logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

DOMAIN = "specbeam.dev"


@dataclass(frozen=True, slots=True)
class Violation:
    """One rule a request breaks.

    Attributes:
        field: Path of the field, such as ``events[3].item_id``.
        description: What is wrong with it.
    """

    field: str
    description: str


class SpecbeamError(Exception):
    """Base of every error that is answered to a caller. Never raised itself.

    Attributes:
        reason: Stable name of the error for programs, UPPER_SNAKE.
        status: Name of the gRPC status code.
        retryable: Whether the same request can succeed later or elsewhere.
        message: Public text.
        metadata: Values behind the message, for programs.
        violations: Rules the request breaks; only for invalid requests.
        retry_after_s: Seconds after which trying again makes sense, if known.
    """

    reason: ClassVar[str]
    status: ClassVar[str]
    retryable: ClassVar[bool]
    default_message: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
        violations: Sequence[Violation] = (),
        retry_after_s: float | None = None,
    ) -> None:
        self.message = self.default_message if message is None else message
        self.metadata = dict(metadata or {})
        self.violations = tuple(violations)
        self.retry_after_s = retry_after_s
        super().__init__(self.message)


class InvalidRequest(SpecbeamError):
    """The request breaks a rule; every violation found is listed."""

    reason = "INVALID_REQUEST"
    status = "INVALID_ARGUMENT"
    retryable = False
    default_message = "the request is invalid"

    def __init__(
        self,
        violations: Sequence[Violation],
        message: str | None = None,
        *,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        if message is None and violations:
            first = violations[0]
            more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
            message = f"{first.field}: {first.description}{more}"
        super().__init__(message, metadata=metadata, violations=violations)


class NotFound(SpecbeamError):
    """Something that the request names does not exist."""

    reason = "NOT_FOUND"
    status = "NOT_FOUND"
    retryable = False
    default_message = "not found"


class UnknownBundle(NotFound):
    """No bundle of that name is served here."""

    reason = "UNKNOWN_BUNDLE"
    default_message = "no such bundle is served"


class UnknownUser(NotFound):
    """No user of that name is stored."""

    reason = "UNKNOWN_USER"
    default_message = "no such user"


class FingerprintMismatch(SpecbeamError):
    """Two services hold another model, prompt template or catalogue."""

    reason = "FINGERPRINT_MISMATCH"
    status = "FAILED_PRECONDITION"
    retryable = False
    default_message = "model, prompt or catalogue differ from what the session expects"


class Overloaded(SpecbeamError):
    """More work than can be done in time; refused at the door."""

    reason = "OVERLOADED"
    status = "RESOURCE_EXHAUSTED"
    retryable = True
    default_message = "too many requests at once"


class DeadlineSpent(SpecbeamError):
    """The time left does not pay for an answer."""

    reason = "DEADLINE_SPENT"
    status = "DEADLINE_EXCEEDED"
    retryable = True
    default_message = "not enough time left to answer"


class LeaseExpired(SpecbeamError):
    """A session sat idle for too long; its KV states are gone."""

    reason = "LEASE_EXPIRED"
    status = "ABORTED"
    retryable = True
    default_message = "the session sat idle past its lease; open a new one and resume"


class Unavailable(SpecbeamError):
    """Something needed for an answer is out of reach for now."""

    reason = "UNAVAILABLE"
    status = "UNAVAILABLE"
    retryable = True
    default_message = "out of reach for now"


class StoreUnavailable(Unavailable):
    """The history store is out of reach."""

    reason = "STORE_UNAVAILABLE"
    default_message = "the history store is out of reach"


class TargetUnavailable(Unavailable):
    """The target service is out of reach."""

    reason = "TARGET_UNAVAILABLE"
    default_message = "the target service is out of reach"


class DraftUnavailable(Unavailable):
    """The draft service is out of reach."""

    reason = "DRAFT_UNAVAILABLE"
    default_message = "the draft service is out of reach"


class Draining(Unavailable):
    """This process is shutting down and takes no new work."""

    reason = "DRAINING"
    default_message = "the server is shutting down"


class Internal(SpecbeamError):
    """A bug. What happened is in the log, not in the answer."""

    reason = "INTERNAL"
    status = "INTERNAL"
    retryable = False
    default_message = "internal error"


def find_specbeam_error(error: BaseException) -> SpecbeamError | None:
    """Return the error itself, or the only one inside a group of one; else None."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, SpecbeamError) else None
