"""What relaxed verification promises, and how far it is from sampling, in exact rationals."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from tests.rules.laws import (
    Law,
    positive,
    random_law,
    random_tree,
    sets_without_replacement,
    total_variation,
    tree_of,
    without_replacement,
)
from tests.rules.races import as_sets, fresh_noise
from tests.rules.relaxed_laws import accepted_law, beam_sampling, items_law, level_law, passing
from tests.rules.report import DISTANCES, SHAPES, at_distance, level_distance

P = tree_of(2, {(): [5, 3, 2], (0,): [1, 1, 2], (1,): [1, 4], (2,): [3, 1]})
Q = tree_of(2, {(): [2, 3, 5], (0,): [2, 1, 1], (1,): [1, 1], (2,): [1, 2]})


def test_one_candidate_for_one_beam_is_speculative_sampling() -> None:
    source = random.Random(1)
    for size in (2, 3, 5):
        for _ in range(40):
            p, q = random_law(source, size), random_law(source, size)
            wanted: Law[frozenset[int]] = sets_without_replacement(p, 1)
            assert total_variation(level_law(p, q, 1, 1), wanted) == 0


@pytest.mark.parametrize("depth", [2, 3])
def test_one_beam_draws_an_item(depth: int) -> None:
    source = random.Random(depth)
    for _ in range(20):
        p = random_tree(source, depth, 3)
        # The draft's tree has the same shape and laws of its own.
        q = p.changed(
            lambda _, row: dict(zip(row, random_law(source, len(row)).values(), strict=True))
        )
        wanted = as_sets(without_replacement(p.items(), 1))
        assert total_variation(items_law(p, q, 1, 1), wanted) == 0


def test_equal_laws_and_as_many_candidates_as_beams_change_nothing() -> None:
    source = random.Random(4)
    for _ in range(20):
        p = random_law(source, 6)
        wanted = sets_without_replacement(p, 3)
        assert total_variation(level_law(p, p, 3, 3), wanted) == 0
    assert total_variation(items_law(P, P, 2, 2), beam_sampling(P, 2)) == 0


def test_without_drafts_it_is_beam_sampling() -> None:
    """Which is fresh noise on every level, and not a law of items."""
    assert total_variation(beam_sampling(P, 2), as_sets(fresh_noise(P, 2))) == 0
    assert total_variation(beam_sampling(P, 2), as_sets(without_replacement(P.items(), 2))) > 0


def test_every_set_is_possible_and_none_is_short() -> None:
    source = random.Random(6)
    for _ in range(40):
        p, q = random_law(source, 6, zeros=0.4), random_law(source, 6, zeros=0.4)
        live = len(positive(p))
        found = level_law(p, q, 4, 3)
        assert sum(found.values()) == 1
        assert {len(kept) for kept in found} == {min(3, live)}
        assert all(p[node] > 0 for kept in found for node in kept)


def test_too_small_a_residual_is_filled_from_the_target() -> None:
    """p = q: nothing is left of p - q, and here only one of two drafts can be accepted."""
    p = {0: Fraction(1, 2), 1: Fraction(1, 4), 2: Fraction(1, 4)}
    q = {0: Fraction(1, 2), 1: Fraction(1, 4), 2: Fraction(1, 4), 3: Fraction(0)}
    assert level_law(p, q, 1, 2) == level_law(p, p, 1, 2)
    found = level_law(p, p, 1, 2)
    assert found[frozenset({0, 1})] == Fraction(1, 2) * Fraction(1, 2) + Fraction(1, 4) * Fraction(
        2, 3
    )


def test_more_candidates_than_beams_flatten_the_law_of_equal_models() -> None:
    for shape in SHAPES.values():
        assert level_distance(shape, shape, 3, 3) == 0
        assert level_distance(shape, shape, 6, 3) > Fraction(1, 10)


@pytest.mark.parametrize("shape", list(SHAPES))
def test_with_another_draft_law_the_sets_have_another_law(shape: str) -> None:
    passed = []
    for far in DISTANCES[1:]:
        q = at_distance(SHAPES[shape], far)
        passed.append(passing(SHAPES[shape], q, 3, 3))
        assert level_distance(SHAPES[shape], q, 3, 3) > Fraction(1, 50)
    assert passed == sorted(passed, reverse=True)


def test_the_accepted_are_as_many_as_the_laws_share() -> None:
    """One candidate from q is kept with probability 1 - TV(p, q)."""
    source = random.Random(8)
    for _ in range(20):
        p, q = random_law(source, 5), random_law(source, 5)
        kept = sum(
            (
                mass * accepted_law(p, q, frozenset({y})).get(frozenset({y}), Fraction(0))
                for y, mass in positive(q).items()
            ),
            Fraction(0),
        )
        assert kept == 1 - total_variation(p, q)


def test_whole_items_are_far_from_both_laws() -> None:
    found = items_law(P, Q, 3, 2)
    assert total_variation(found, beam_sampling(P, 2)) > Fraction(1, 100)
    assert total_variation(found, as_sets(without_replacement(P.items(), 2))) > Fraction(1, 100)
