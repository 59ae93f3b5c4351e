"""Bootstrap intervals over users, of means and of paired differences."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]

RESAMPLES = 10_000
INTERVAL = (2.5, 97.5)
# Numbers of a block of resamples: 40 MB.
BLOCK_NUMBERS = 5_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over users and its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    @property
    def contains_zero(self) -> bool:
        """Whether 0 lies between the ends."""
        return self.low <= 0.0 <= self.high

    def to_dict(self) -> dict[str, Any]:
        """Return mean, low and high as JSON values."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


def resampled_means(
    values: Float64Array, *, resamples: int = RESAMPLES, seed: int = 0
) -> Float64Array:
    """Return the mean of each column in each resample of the users.

    One resample draws the same users for all columns, so that the difference of two columns is a
    paired difference.

    Args:
        values: a number per user and column, U at least 1. Shape (U, C).
        resamples: R.
        seed: of the resampling.

    Returns:
        Shape (R, C).
    """
    num_users = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    block = max(1, BLOCK_NUMBERS // num_users)
    for begin in range(0, resamples, block):
        size = min(block, resamples - begin)
        drawn = rng.integers(num_users, size=(size, num_users))
        drawn += np.arange(size)[:, None] * num_users
        times = np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)
        means[begin : begin + size] = times.astype(np.float64) @ values / num_users
    return means


def intervals(values: Float64Array, means: Float64Array) -> list[Interval]:
    """Return the percentile interval of each column.

    Args:
        values: shape (U, C).
        means: of the resamples, from `resampled_means`. Shape (R, C).
    """
    low, high = np.percentile(means, INTERVAL, axis=0)
    return [
        Interval(float(mean), float(a), float(b))
        for mean, a, b in zip(values.mean(axis=0), low, high, strict=True)
    ]
