"""Progress of a long part, with the time it will probably still take."""

import time
from collections.abc import Callable

from specbeam.training.progress import Reporter

SECONDS_PER_MINUTE = 60


class Stage:
    """One part of the work, such as the ranking of all users by one ranker."""

    def __init__(
        self, reporter: Reporter, name: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start the clock.

        Args:
            reporter: where progress goes.
            name: shown beside the bar.
            clock: seconds.
        """
        self._reporter, self._name, self._clock = reporter, name, clock
        self._begin = clock()
        self.update(0.0)

    def update(self, share: float, text: str = "") -> None:
        """Report progress.

        Args:
            share: of the part, 0 .. 1.
            text: what has just been done.
        """
        parts = [part for part in (text, self._remaining(share)) if part]
        self._reporter.update(self._name, share, ", ".join(parts))

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._begin

    def _remaining(self, share: float) -> str:
        if not 0.0 < share < 1.0:
            return ""
        seconds = round(self.seconds * (1.0 - share) / share)
        minutes, seconds = divmod(seconds, SECONDS_PER_MINUTE)
        return f"{minutes}:{seconds:02d} left"
