"""Which interactions are train, valid and test.

Splits are numbered as in `SPLITS`: 0 train, 1 valid, 2 test.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

SplitMethod = Literal["leave-one-out", "global-time"]
SPLIT_METHODS: tuple[SplitMethod, ...] = ("leave-one-out", "global-time")
# With fewer, a user would have nothing to be trained or asked with.
MIN_SPLIT_USER = 3

Int64Array = npt.NDArray[np.int64]
SplitArray = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How to split.

    Attributes:
        method: `leave-one-out` or `global-time`.
        valid_share: share of interactions in valid; global-time only.
        test_share: share of interactions in test; global-time only.
        cuts: first times of valid and test in Unix milliseconds, instead of the shares.
    """

    method: SplitMethod = "leave-one-out"
    valid_share: float = 0.1
    test_share: float = 0.1
    cuts: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        """Refuse shares that leave nothing to train on, and cuts in the wrong order.

        Raises:
            ValueError: naming the values.
        """
        if min(self.valid_share, self.test_share) < 0 or self.valid_share + self.test_share >= 1:
            raise ValueError(
                f"shares of valid {self.valid_share:g} and test {self.test_share:g} must not be "
                "negative and must leave some for train"
            )
        if self.cuts and self.cuts[0] > self.cuts[1]:
            raise ValueError("test would begin before valid")


def leave_one_out(user: npt.NDArray[np.integer]) -> SplitArray:
    """Give each user's last interaction to test and the last but one to valid.

    Users with fewer than `MIN_SPLIT_USER` interactions are train only.

    Args:
        user: user numbers, rows of one user together and in time order. Shape (M,).

    Returns:
        Split numbers. Shape (M,).
    """
    counts = np.bincount(user)
    last = np.zeros(len(counts), np.int64)
    last[user] = np.arange(len(user))
    after = last[user] - np.arange(len(user))
    split = np.where(after == 0, 2, np.where(after == 1, 1, 0))
    return np.where(counts[user] >= MIN_SPLIT_USER, split, 0).astype(np.uint8)


def cut_times(time: Int64Array, valid_share: float, test_share: float) -> tuple[int, int]:
    """Return the first times of valid and of test, at quantiles of all interactions.

    Interactions at a cut belong to the later part, so ties make the later part larger.

    Args:
        time: one time per interaction. Shape (M,), M > 0.
        valid_share: wanted share of valid.
        test_share: wanted share of test.
    """
    ordered = np.sort(time)
    size = len(ordered)

    def cut(share: float) -> int:
        later = round(share * size)
        return int(ordered[size - later]) if later else int(ordered[-1]) + 1

    return cut(valid_share + test_share), cut(test_share)


def global_time(time: Int64Array, valid_from: int, test_from: int) -> SplitArray:
    """Split at two times; an interaction at a cut belongs to the later part.

    Args:
        time: one time per interaction. Shape (M,).
        valid_from: first time of valid.
        test_from: first time of test, not before `valid_from`.

    Returns:
        Split numbers. Shape (M,).
    """
    return ((time >= valid_from).astype(np.uint8) + (time >= test_from)).astype(np.uint8)


def apply_split(rule: SplitRule, user: npt.NDArray[np.integer], time: Int64Array) -> SplitArray:
    """Split interactions, rows of one user together and in time order.

    Args:
        rule: how.
        user: user numbers. Shape (M,).
        time: times in Unix milliseconds. Shape (M,).
    """
    if rule.method == "leave-one-out" or not len(time):
        return leave_one_out(user)
    cuts = rule.cuts or cut_times(time, rule.valid_share, rule.test_share)
    return global_time(time, *cuts)
