from collections import defaultdict

import numpy as np
import pytest

from specbeam.training.data.splits import (
    SplitRule,
    apply_split,
    cut_times,
    global_time,
    leave_one_out,
)


def reference_leave_one_out(user: list[int]) -> list[int]:
    rows = defaultdict(list)
    for row, number in enumerate(user):
        rows[number].append(row)
    split = [0] * len(user)
    for mine in rows.values():
        if len(mine) >= 3:
            split[mine[-1]], split[mine[-2]] = 2, 1
    return split


def reference_global_time(time: list[int], valid_from: int, test_from: int) -> list[int]:
    return [2 if t >= test_from else 1 if t >= valid_from else 0 for t in time]


@pytest.mark.parametrize("seed", range(5))
def test_leave_one_out_agrees_with_the_obvious_way(seed: int) -> None:
    user = np.sort(np.random.default_rng(seed).integers(0, 40, 150))
    assert leave_one_out(user).tolist() == reference_leave_one_out(user.tolist())


def test_short_users_only_train() -> None:
    assert leave_one_out(np.array([0, 1, 1, 2, 2, 2])).tolist() == [0, 0, 0, 0, 1, 2]


@pytest.mark.parametrize("seed", range(5))
def test_global_time_agrees_with_the_obvious_way(seed: int) -> None:
    time = np.random.default_rng(seed).integers(0, 50, 200)
    cuts = cut_times(time, 0.2, 0.1)
    assert global_time(time, *cuts).tolist() == reference_global_time(time.tolist(), *cuts)
    # A cut moves back at most to the other interactions of its own time.
    for cut, share in zip(cuts, (0.3, 0.1), strict=True):
        assert (time > cut).sum() < share * len(time) <= (time >= cut).sum()


def test_distinct_times_give_the_shares_asked_for() -> None:
    time = np.random.default_rng(0).permutation(1000)
    split = apply_split(SplitRule("global-time"), np.zeros(1000, np.int64), time)
    assert np.bincount(split).tolist() == [800, 100, 100]


def test_an_interaction_at_a_cut_belongs_to_the_later_part() -> None:
    assert global_time(np.array([9, 10, 19, 20]), 10, 20).tolist() == [0, 1, 1, 2]


def test_no_share_leaves_a_part_empty() -> None:
    time = np.arange(10)
    assert global_time(time, *cut_times(time, 0.0, 0.0)).tolist() == [0] * 10


@pytest.mark.parametrize(
    "arguments",
    [{"valid_share": 0.5, "test_share": 0.5}, {"test_share": -0.1}, {"cuts": (20, 10)}],
)
def test_a_split_without_train_or_order_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        SplitRule("global-time", **arguments)  # type: ignore[arg-type]
