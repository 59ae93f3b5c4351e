"""Stochastic beam search draws whole items without replacement, exactly; fresh noise does not."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from tests.rules.laws import (
    TreeLaw,
    filtered,
    random_tree,
    tempered,
    total_variation,
    tree_of,
    without_replacement,
)
from tests.rules.races import as_sets, first, fresh_noise, race_of

# Two levels: an uneven tree with an only child and an impossible branch.
UNEVEN = tree_of(2, {(): [5, 3, 2, 0], (0,): [1, 1, 2], (1,): [1], (2,): [0, 3, 1], (3,): [1]})
# Three levels, items in unequal numbers below each prefix.
DEEP = tree_of(
    3,
    {
        (): [4, 3],
        (0,): [3, 1],
        (1,): [1, 0, 2],
        (0, 0): [1, 2],
        (0, 1): [1],
        (1, 0): [2, 3],
        (1, 1): [1],
        (1, 2): [5, 1],
    },
)
FEW = tree_of(2, {(): [1, 1], (0,): [1, 0], (1,): [0, 1]})


def distance(law: TreeLaw, width: int, count: int) -> Fraction:
    """Between the beam's best K items, in order, and as many draws from the items' law."""
    wanted = without_replacement(law.items(), count)
    return total_variation(first(race_of(law, width), count), wanted)


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("law", [UNEVEN, DEEP, FEW], ids=["uneven", "deep", "few"])
def test_the_beam_draws_whole_items_without_replacement(law: TreeLaw, width: int) -> None:
    for count in range(1, width + 1):
        assert distance(law, width, count) == 0


@pytest.mark.parametrize("depth", [2, 3])
def test_the_same_on_random_trees(depth: int) -> None:
    source = random.Random(depth)
    for _ in range(12):
        law = random_tree(source, depth, 3 if depth == 2 else 2)
        for width in (2, 3):
            assert distance(law, width, width) == 0


def test_the_same_on_larger_random_trees() -> None:
    source = random.Random(7)
    for _ in range(10):
        assert distance(random_tree(source, 3, 3), 3, 3) == 0


def test_temperature_and_top_k_change_each_step_before_they_are_multiplied() -> None:
    for law in (tempered(UNEVEN, 2), filtered(UNEVEN, 2), tempered(filtered(DEEP, 1), 3)):
        assert sum(law.items().values()) == 1
        assert distance(law, 2, 2) == 0


def test_fewer_items_than_beams_are_all_found() -> None:
    assert {frozenset(found) for found in race_of(FEW, 3)} == {frozenset({(0, 0), (1, 1)})}


@pytest.mark.parametrize("law", [UNEVEN, DEEP], ids=["uneven", "deep"])
def test_fresh_noise_on_every_level_is_another_law(law: TreeLaw) -> None:
    wanted = without_replacement(law.items(), 2)
    found = fresh_noise(law, 2)
    in_order = total_variation(found, wanted)
    of_sets = total_variation(as_sets(found), as_sets(wanted))
    print(f"fresh noise: total variation {float(in_order):.3f}, of sets {float(of_sets):.3f}")
    assert of_sets > Fraction(1, 50)
    assert in_order >= of_sets


def test_one_beam_needs_no_condition() -> None:
    """W = 1 is sampling token by token, with any noise."""
    for law in (UNEVEN, DEEP):
        assert total_variation(fresh_noise(law, 1), without_replacement(law.items(), 1)) == 0
