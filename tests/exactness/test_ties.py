"""Exact ties: rounded logits, so that many choices are left to the order of the paths.

Two paths tie exactly when they were scored by the same operations on the same numbers, step by
step.  Paths whose scores are equal on paper only (1/2 times 1/3 and 1/6, or one sum in another
order) may differ in the last bit, one way here and the other way there; cases that such a pair
decides are left out and counted.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch

from specbeam.decoding.reference import PAD, Beam, Path, ReferenceAnswer
from tests.exactness.cases import CONVENTIONS, WAYS, Case, World, assert_equal, make_case, run_case
from tests.exactness.requests import FILTER_COMBINATIONS

pytestmark = pytest.mark.slow

WORLDS = 32
CASES_PER_WORLD = 12
NOISE = 1e-11


def decided_places(case: Case, want: ReferenceAnswer) -> list[tuple[Beam, Beam]]:
    """Neighbours whose order matters: on both sides of a cut, or both returned."""
    width = case.request.beam_width
    pairs: list[tuple[Beam, Beam]] = []
    for level in want.candidates:
        if len(level) > width:
            # Everything as good as the last beam, and the first one of it.
            edge = level[width - 1].score
            near = [beam for beam in level if abs(beam.score - edge) < NOISE]
            if level.index(near[-1]) >= width:
                pairs += pairwise(near)
    pairs += pairwise(want.candidates[-1][:width])
    return pairs


def arithmetic(case: Case, want: ReferenceAnswer, path: Path) -> list[tuple[float, ...]]:
    """The numbers behind each step of a path: its logit, and those it is normalised over."""
    books, prompt = case.world.catalogue.codebooks, case.request.prompt.tokens
    steps = []
    for level, token in enumerate(path):
        parent = path[:level]
        after = [beam.path[-1] for beam in want.candidates[level] if beam.path[:-1] == parent]
        if token == PAD or (case.convention == "TRIE" and len(after) == 1):
            steps.append(())
            continue
        (row,) = case.world.law([[*prompt, *parent]])
        among = sorted(after)
        if case.convention == "VOCAB":
            among = list(range(len(row)))
        elif case.convention == "LEVEL":
            used = case.world.trie.level_tokens(level + 1).tolist()
            among = list(books[level]) if books else used
        steps.append((row[token], *(row[other] for other in among)))
    return steps


def count_ties(case: Case, want: ReferenceAnswer) -> tuple[int, int]:
    """Decisions between exact ties, and between scores that only noise tells apart."""
    exact = unclear = 0
    for first, second in decided_places(case, want):
        if abs(first.score - second.score) < NOISE:
            alike = arithmetic(case, want, first.path) == arithmetic(case, want, second.path)
            exact += alike
            unclear += not alike
    return exact, unclear


@pytest.mark.parametrize("grid", [0.5, 4.0, 1e6])
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_exact_ties_follow_the_path_order(
    grid: float, convention: str, record_property: Callable[[str, object], None]
) -> None:
    torch.set_num_threads(1)
    ties = left_out = cases = 0
    for number in range(WORLDS):
        world, rng = World.make(number, grid=grid), np.random.default_rng([number, 4])
        for _ in range(CASES_PER_WORLD):
            kinds = FILTER_COMBINATIONS[cases % len(FILTER_COMBINATIONS)]
            case = make_case(world, rng, kinds, convention, WAYS[cases % len(WAYS)])
            got, want = run_case(case, rng), case.expected()
            exact, unclear = count_ties(case, want)
            cases += 1
            if unclear:
                left_out += 1
            else:
                ties += exact
                assert_equal(case, got, want)
    record_property("ties", f"{ties} in {cases} cases, {left_out} cases left out")
    print(f"{convention}, grid {grid}: {cases} cases, {ties} ties, {left_out} left out")
    assert ties > 50
    assert left_out < cases / 4
