"""Stochastic beam search equals the slow reference: the same items in the same order for one seed.

Whatever is drafted, in whichever flow, on the host or with torch, with every filter.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from specbeam.decoding.shape import DraftShape
from specbeam.engine import SpeculationSpec
from tests.exactness.cases import (
    FLOWS,
    PLACES,
    SCORE_TOLERANCE,
    WAYS,
    Case,
    World,
    assert_cheap,
    assert_equal,
    compare,
    make_case,
    run_case,
)
from tests.exactness.catalogues import MAKERS
from tests.exactness.plain_noise import random_selection
from tests.exactness.requests import FILTER_COMBINATIONS

CASES_PER_WORLD = 20
world_of = cache(World.make)


def sampling_case(
    world: World, rng: np.random.Generator, number: int, way: str | None = None
) -> Case:
    """A random case of the suite that draws instead of taking the best."""
    kinds = FILTER_COMBINATIONS[number % len(FILTER_COMBINATIONS)]
    case = make_case(world, rng, kinds, "TRIE", way or WAYS[number % len(WAYS)])
    return replace(case, selection=random_selection(rng))


@pytest.mark.parametrize("chunk", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_items_drawn_equal_the_reference(chunk: int) -> None:
    torch.set_num_threads(1)
    seen: Counter[str] = Counter()
    accepted: Counter[int] = Counter()
    cases = 0
    for maker in range(len(MAKERS)):
        number = chunk * len(MAKERS) + maker
        world, rng = world_of(number), np.random.default_rng([number, 21])
        for _ in range(CASES_PER_WORLD):
            case = sampling_case(world, rng, cases)
            got, want = compare(case, rng)
            cases += 1
            seen.update([case.place, case.way, case.flow, *(["restarts"] * got.restarted)])
            seen["by noise"] += any(
                [beam.path for beam in level]
                != [b.path for b in sorted(level, key=lambda beam: (-beam.score, beam.path))]
                for level in want.candidates
            )
            accepted.update(turn.accepted_levels for turn in got.turns)
    for name in (*WAYS, *FLOWS, *PLACES, "restarts", "by noise"):
        assert seen[name] >= 5, name
    assert min(accepted[depth] for depth in range(4)) > 0


@pytest.mark.parametrize("maker", range(len(MAKERS)))
def test_one_seed_gives_one_answer(maker: int) -> None:
    """However it is searched for; another seed mostly gives another one."""
    torch.set_num_threads(1)
    world, rng = world_of(maker), np.random.default_rng([maker, 22])
    first = replace(sampling_case(world, rng, 0, "plain"), restarts=False)
    answers = []
    for way in WAYS:
        place = str(rng.choice(PLACES))
        flow = "root-first" if way == "plain" else str(rng.choice(FLOWS))
        other = make_case(world, rng, frozenset(), "TRIE", way)
        case = replace(
            other, request=first.request, selection=first.selection, place=place, flow=flow
        )
        answers.append(run_case(case, rng).ranked)
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.items, answers[0].items)
        np.testing.assert_allclose(answer.scores, answers[0].scores, rtol=0, atol=SCORE_TOLERANCE)


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("flow", FLOWS)
def test_a_drafter_equal_to_the_target_is_accepted_whole(maker: int, flow: str) -> None:
    """Its noise is the target's, so its beam is: the prompt, then one pass; or one in all."""
    torch.set_num_threads(1)
    world, rng = world_of(maker), np.random.default_rng([maker, 23])
    for number in range(0, 32, 8):
        case = sampling_case(world, rng, number, "same")
        width = case.request.beam_width
        speculation = SpeculationSpec(
            max_rows=world.runners["target"].config.max_rows,
            shape=DraftShape(world.trie.depth, int(rng.choice([1, width + 1, 2 * width, 80]))),
        )
        case = replace(
            case, speculation=speculation, restarts=False, steps_plainly=False, flow=flow
        )
        got, want = run_case(case, rng), case.expected()
        assert_equal(case, got, want)
        assert_cheap(case, got, want)
        assert len(got.turns) <= (2 if flow == "root-first" else 1)
