"""A circuit breaker: a service that keeps failing is left alone for a while."""

import time
from collections.abc import Callable


class Breaker:
    """Opens after some failures in a row; later lets one attempt through to find out.

    Source: the circuit breaker of M. Nygard, "Release It!" (2007).
    """

    def __init__(
        self,
        *,
        failures: int = 3,
        open_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a closed breaker.

        Args:
            failures: Failures in a row that open it.
            open_s: Seconds it stays open before an attempt is let through.
            clock: Monotonic clock, seconds.
        """
        self._limit = failures
        self._open_s = open_s
        self._clock = clock
        self._failed = 0
        self._opened_at = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether the service is being left alone."""
        return self._failed >= self._limit

    def allow(self) -> bool:
        """Return whether an attempt may be made; report how it went afterwards."""
        if not self.is_open:
            return True
        if self._probing or self._clock() - self._opened_at < self._open_s:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Report an attempt that went well."""
        self._failed = 0
        self._probing = False

    def failed(self) -> None:
        """Report an attempt that failed."""
        self._failed = min(self._failed + 1, self._limit)
        self._opened_at = self._clock()
        self._probing = False

    def abandoned(self) -> None:
        """Report an attempt that ended without an outcome."""
        self._probing = False
