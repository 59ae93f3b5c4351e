"""Which way to answer a kind of request: by what the ways took, and what they must take."""

from __future__ import annotations

import random
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

import numpy as np

from specbeam.drafting.ways import PLAIN, Way

WINDOW = 48
MIN_SAMPLES = 4
# Older samples count only while there are not enough younger ones: load and prompts change.
MAX_AGE_S = 60.0
KEPT_WHEN_OLD = 12
MAX_KEYS = 1024
# The one way that needs nobody else is left only for one quicker by this much.
MARGIN = 0.97
# Ways this much slower than the best are not tried again to see whether they have become better.
_HOPELESS = 1.6
# A way may be better than its mean by so many standard errors, which are no less than a share of
# the mean for one sample: few times of it say little.
_DOUBT, _LEAST_SPREAD = 1.5, 0.1
# A way that sends a tree less often searches as the plain one does and looks for trees besides:
# where its times are shorter, that is somebody else's doing.
_DRAFTED = 0.25
# Times above so many medians are cut to them: somebody else's load, not the way's doing.
_LONGEST = 2.0


@dataclass(slots=True)
class _Times:
    """Recent times of one way."""

    samples: deque[tuple[float, float, bool]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @property
    def drafted(self) -> bool:
        """Whether enough of the samples sent a tree; if not, this is a detour to the plain way."""
        return sum(tree for _, _, tree in self.samples) >= _DRAFTED * len(self.samples)

    def mean_ms(self, now: float) -> tuple[float, float] | None:
        """Mean of the recent samples, outliers cut, and its error; None while there are too few."""
        samples = self.samples
        while len(samples) > KEPT_WHEN_OLD and now - samples[0][0] > MAX_AGE_S:
            samples.popleft()
        if len(samples) < MIN_SAMPLES:
            return None
        values = np.array([ms for _, ms, _ in samples])
        values = np.minimum(values, _LONGEST * np.median(values))
        mean = float(values.mean())
        spread = max(float(values.std()), _LEAST_SPREAD * mean)
        return mean, spread / float(np.sqrt(len(values)))


class ArmChooser:
    """Picks the way with the least expected time, per kind of request.

    The first way is tried until there are a few times of it, then every other one, unless even its
    least possible time is more than what another takes. Afterwards requests go the way that may be
    quickest for all that is known, so a way with few times behind it is tried on until they tell; a
    small share goes another way, so that a change is noticed.
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
            exploration: share of requests that go another way than the best, 0..1.
            rng: source of randomness.
            clock: monotonic clock, seconds.
        """
        self._exploration = exploration
        self._rng = rng or random.Random()
        self._clock = clock
        self._kinds: OrderedDict[Hashable, dict[Way, _Times]] = OrderedDict()

    def choose(self, kind: Hashable, floors: Mapping[Way, float]) -> Way:
        """Return the way to go.

        Args:
            kind: of the request.
            floors: the ways there are, the one that needs nobody else first, each with the least
                milliseconds that it can take; 0 = unknown.

        Raises:
            ValueError: there is no way.
        """
        if not floors:
            raise ValueError("there is no way to choose")
        ways, now = self._ways(kind), self._clock()
        told = {way: ways[way].mean_ms(now) if way in ways else None for way in floors}
        known = {way: mean[0] for way, mean in told.items() if mean is not None}
        # What they may really take; more times of those that may be best settle it.
        hoped = {
            way: mean[0] - _DOUBT * mean[1]
            for way, mean in told.items()
            if mean is not None and (PLAIN not in floors or way == PLAIN or ways[way].drafted)
        }
        best_ms = min(known.values(), default=np.inf)
        first = next(iter(floors))
        if first not in known:
            return first
        new = [way for way in floors if way not in known and floors[way] < best_ms]
        if new:
            return min(new, key=lambda way: len(ways[way].samples) if way in ways else 0)
        best = min(hoped, key=lambda way: hoped[way] * (MARGIN if way == first else 1.0))
        others = [way for way, ms in known.items() if way != best and ms < _HOPELESS * known[best]]
        if others and self._rng.random() < self._exploration:
            return self._rng.choice(others)
        return best

    def record(self, kind: Hashable, way: Way, ms: float, *, drafted: bool = True) -> None:
        """Keep what a request took.

        Args:
            kind: of the request.
            way: that it went.
            ms: of its search, milliseconds.
            drafted: whether a tree was sent; without one there is nothing to hope for.
        """
        ways = self._ways(kind)
        ways.setdefault(way, _Times()).samples.append((self._clock(), ms, drafted))

    def _ways(self, kind: Hashable) -> dict[Way, _Times]:
        ways = self._kinds.get(kind)
        if ways is None:
            ways = self._kinds[kind] = {}
            if len(self._kinds) > MAX_KEYS:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(kind)
        return ways
