"""Ratios of times measured side by side, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_DRAWS = 2000


def paired_ratio(slow: Sequence[float], fast: Sequence[float], seed: int) -> dict[str, float]:
    """Return the median of slow / fast over requests that both answered.

    Args:
        slow: times by request.
        fast: times of the same requests, at least as many; further ones are left out.
        seed: of the bootstrap.

    Returns:
        The median ratio and its 95 % percentile interval, requests drawn with replacement.
    """
    ratios = np.array(slow) / np.array(fast[: len(slow)])
    rng = np.random.default_rng(seed)
    drawn = np.median(ratios[rng.integers(len(ratios), size=(_DRAWS, len(ratios)))], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {"median": float(np.median(ratios)), "low": float(low), "high": float(high)}
