"""The law of a node's children after temperature and top-k.  numpy only.

`torch_laws` does the same to logits on a device.
"""

from __future__ import annotations

import numpy as np

from specbeam.decoding.selection import Selection

# Anything colder is as certain, and children must not become impossible by overflow.
COLDEST = 1e-30


def shaped_law(logprobs: np.ndarray, selection: Selection) -> np.ndarray:
    """Return the normalised law of each node's children after temperature and top-k.

    Args:
        logprobs: log-probabilities, -inf for dead children; they need not be normalised, and may be
            those of a part of the children only.  Shape (n, C).
        selection: names the temperature and how many children stay.

    Returns:
        Shape (n, C), float64; -inf for children that are dead or left out.
    """
    values = np.asarray(logprobs, np.float64)
    if 0 < selection.top_k < values.shape[1]:
        values = np.where(_largest(values, selection.top_k), values, -np.inf)
    dead = values == -np.inf
    # Nodes without a live child have no largest value; all of them stays dead.
    with np.errstate(invalid="ignore", divide="ignore"):
        values = values - values.max(axis=1, keepdims=True)
        values = values / max(selection.temperature, COLDEST)
        values[dead] = -np.inf
        total = np.log(np.exp(values).sum(axis=1, keepdims=True))
        shaped: np.ndarray = np.where(dead, -np.inf, values - total)
    return shaped


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Which `count` values of each row are largest, ties to the smaller position.  Bool."""
    threshold = np.partition(values, -count, axis=1)[:, -count][:, None]
    above, equal = values > threshold, values == threshold
    missing = count - above.sum(axis=1, keepdims=True)
    largest: np.ndarray = above | (equal & (equal.cumsum(axis=1) <= missing))
    return largest
