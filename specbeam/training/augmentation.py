"""Random variations of a user's history that a trained model should not mind."""

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]

JITTER = 4.0


def drop_some(events: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Drop each entry with one random probability below a half; at least one stays."""
    if len(events) < 2:
        return events
    kept = events[rng.random(len(events)) >= 0.5 * rng.random()]
    return kept if len(kept) else events[-1:]


def jitter_order(events: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Move entries a few places: what was bought on one day has no order worth learning."""
    return events[np.argsort(np.arange(len(events)) + JITTER * rng.random(len(events)))]


def split_long(events: Int64Array, max_items: int, rng: np.random.Generator) -> list[Int64Array]:
    """Cut a history longer than the window into windows with a random phase."""
    if len(events) <= max_items:
        return [events]
    first = int(rng.integers(1, max_items + 1))
    return np.split(events, list(range(first, len(events), max_items)))
