from collections import Counter

import numpy as np
import pytest

from specbeam.training.data.cleaning import (
    Repeats,
    first_of_equal_rows,
    k_core,
    time_order,
    without_repeats,
)

Rows = list[tuple[int, int, int]]


def random_rows(seed: int, size: int = 300) -> tuple[Rows, np.ndarray]:
    rng = np.random.default_rng(seed)
    table = np.stack(
        [rng.integers(0, 25, size), rng.zipf(1.6, size) % 40, rng.integers(0, 12, size)]
    )
    return list(zip(*table.tolist(), strict=True)), table


def reference_repeats(rows: Rows, which: Repeats) -> list[int]:
    best: dict[tuple[int, int], int] = {}
    for number, (user, item, time) in enumerate(rows):
        kept = best.setdefault((user, item), number)
        earlier, later = time < rows[kept][2], time >= rows[kept][2]
        if earlier if which == "first" else later:
            best[user, item] = number
    return sorted(best.values())


def reference_k_core(rows: Rows, min_user: int, min_item: int) -> list[int]:
    kept = list(range(len(rows)))
    while True:
        users = Counter(rows[number][0] for number in kept)
        items = Counter(rows[number][1] for number in kept)
        # One weak user or item at a time: the outcome does not depend on the order.
        weak_user = next((user for user, count in users.items() if count < min_user), None)
        weak_item = next((item for item, count in items.items() if count < min_item), None)
        if weak_user is not None:
            kept = [number for number in kept if rows[number][0] != weak_user]
        elif weak_item is not None:
            kept = [number for number in kept if rows[number][1] != weak_item]
        else:
            return kept


@pytest.mark.parametrize("seed", range(4))
def test_equal_rows_keep_their_first(seed: int) -> None:
    rows, table = random_rows(seed)
    expected = sorted({row: number for number, row in reversed(list(enumerate(rows)))}.values())
    assert np.flatnonzero(first_of_equal_rows(*table)).tolist() == expected


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("seed", range(4))
def test_repeats_agree_with_the_obvious_way(seed: int, which: Repeats) -> None:
    rows, table = random_rows(seed)
    kept = without_repeats(table[0], table[1], table[2], which)
    assert np.flatnonzero(kept).tolist() == reference_repeats(rows, which)
    assert without_repeats(table[0], table[1], table[2], "all").all()


@pytest.mark.parametrize("least", [(1, 1), (3, 1), (1, 3), (5, 5), (9, 12), (99, 1)])
@pytest.mark.parametrize("seed", range(3))
def test_k_core_agrees_with_the_obvious_way(seed: int, least: tuple[int, int]) -> None:
    rows, table = random_rows(seed)
    kept = k_core(table[0], table[1], *least)
    assert np.flatnonzero(kept).tolist() == reference_k_core(rows, *least)


def test_order_is_by_user_then_time_then_row() -> None:
    rows, table = random_rows(0)
    expected = sorted(range(len(rows)), key=lambda row: (rows[row][0], rows[row][2], row))
    assert time_order(table[0], table[2]).tolist() == expected


def test_nothing_stays_nothing() -> None:
    none = np.zeros(0, np.int64)
    assert not len(first_of_equal_rows(none, none, none))
    assert not len(without_repeats(none, none, none, "first"))
    assert not len(k_core(none, none, 5, 5))
