"""Whether to speculate, learned from measured requests."""

import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from statistics import median

WINDOW = 32
MIN_SAMPLES = 3
# Older samples count only while there are not enough younger ones: load and prompts change.
MAX_AGE_S = 60.0
KEPT_WHEN_OLD = 5
MAX_KEYS = 1024
PROMPT_BUCKETS = (48, 128, 256)


def prompt_bucket(prompt_tokens: int) -> int:
    """Return the number of the length bucket of a prompt."""
    return sum(prompt_tokens > edge for edge in PROMPT_BUCKETS)


class _Arm:
    """Times of one way to answer."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=WINDOW)

    def add(self, now: float, ms: float) -> None:
        self._samples.append((now, ms))

    def median_ms(self, now: float) -> float | None:
        """Median of the recent samples; None while there are too few."""
        samples = self._samples
        while len(samples) > KEPT_WHEN_OLD and now - samples[0][0] > MAX_AGE_S:
            samples.popleft()
        if len(samples) < MIN_SAMPLES:
            return None
        return median(ms for _, ms in samples)


@dataclass(slots=True)
class _Pair:
    off: _Arm
    on: _Arm
    tries: int = 0


class SpeculationChooser:
    """Picks the way with the lower running median, per kind of request.

    Both ways are tried by turns until each has a few samples; afterwards a small share of requests
    goes the slower way, so that a change is noticed.
    """

    def __init__(
        self,
        *,
        exploration: float = 0.02,
        rng: random.Random | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start without samples.

        Args:
            exploration: Share of requests that go the slower way, 0..1.
            rng: Source of randomness.
            clock: Monotonic clock, seconds.
        """
        self._exploration = exploration
        self._rng = rng or random.Random()
        self._clock = clock
        self._pairs: OrderedDict[Hashable, _Pair] = OrderedDict()

    def choose(self, key: Hashable) -> bool:
        """Return whether to speculate on a request of this kind."""
        pair = self._pair(key)
        now = self._clock()
        off, on = pair.off.median_ms(now), pair.on.median_ms(now)
        if off is None or on is None:
            pair.tries += 1
            return pair.tries % 2 == 0
        explore = self._rng.random() < self._exploration
        return (on < off) != explore

    def record(self, key: Hashable, *, speculated: bool, ms: float) -> None:
        """Keep what a request took.

        Args:
            key: Kind of the request, as given to `choose`.
            speculated: Which way it went.
            ms: Time of its search, milliseconds.
        """
        pair = self._pair(key)
        (pair.on if speculated else pair.off).add(self._clock(), ms)

    def _pair(self, key: Hashable) -> _Pair:
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = _Pair(_Arm(), _Arm())
            if len(self._pairs) > MAX_KEYS:
                self._pairs.popitem(last=False)
        else:
            self._pairs.move_to_end(key)
        return pair
