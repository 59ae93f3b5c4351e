"""The id of the request that a task works for."""

import re
import uuid
from contextvars import ContextVar

REQUEST_ID_KEY = "x-request-id"
_VALID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

_request_id: ContextVar[str] = ContextVar("specbeam_request_id", default="")


def new_request_id() -> str:
    """Return a fresh request id, 32 hexadecimal digits."""
    return uuid.uuid4().hex


def current_request_id() -> str:
    """Return the id of the request this task works for; empty outside of one."""
    return _request_id.get()


def set_request_id(proposed: str | bytes | None) -> str:
    """Adopt the caller's id where it is well formed, else a fresh one; return it."""
    usable = isinstance(proposed, str) and _VALID.fullmatch(proposed) is not None
    request_id = str(proposed) if usable else new_request_id()
    _request_id.set(request_id)
    return request_id
