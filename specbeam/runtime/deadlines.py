"""How long a call may take: nothing is inherited in gRPC for Python, so it is computed."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

from specbeam.runtime.errors import DeadlineSpent

# A call with less time than this cannot succeed; failing early is cheaper.
MIN_CALL_S = 0.001


class HasDeadline(Protocol):
    """A servicer context, as far as deadlines go."""

    def time_remaining(self) -> float | None:
        """Return seconds until the caller's deadline, or None without one."""


@dataclass(frozen=True, slots=True)
class CallBudget:
    """The time one RPC may take, and what of it is left.

    Attributes:
        deadline: Moment the RPC must be answered by, seconds on `clock`.
        clock: Monotonic clock, seconds.
    """

    deadline: float
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def start(
        cls,
        context: HasDeadline | Any,
        *,
        default_s: float,
        cap_s: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Self:
        """Return the budget of the RPC of `context`.

        Args:
            context: Servicer context of the RPC.
            default_s: Seconds to allow when the caller set no deadline.
            cap_s: Never allow more seconds than this.
            clock: Monotonic clock, seconds.
        """
        remaining_s = context.time_remaining()
        # No deadline is None in aio, and an enormous number in some versions.
        if remaining_s is None or not math.isfinite(remaining_s) or remaining_s > 1e8:
            remaining_s = default_s
        if cap_s is not None:
            remaining_s = min(remaining_s, cap_s)
        return cls(deadline=clock() + remaining_s, clock=clock)

    def remaining_s(self) -> float:
        """Return seconds left, 0 when none are."""
        return max(0.0, self.deadline - self.clock())

    def for_call(self, *, reserve_s: float = 0.0, cap_s: float | None = None) -> float:
        """Return the timeout to give to an outgoing call, seconds.

        Args:
            reserve_s: Seconds to keep for what comes after the call.
            cap_s: Never give more seconds than this.

        Raises:
            DeadlineSpent: Less than a millisecond would be left for the call.
        """
        timeout_s = self.remaining_s() - reserve_s
        if cap_s is not None:
            timeout_s = min(timeout_s, cap_s)
        if timeout_s < MIN_CALL_S:
            raise DeadlineSpent()
        return timeout_s
