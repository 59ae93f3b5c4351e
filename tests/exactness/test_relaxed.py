"""What relaxed sampling promises although it is approximate.

How far its law is from the one it imitates is measured in tests/rules.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from specbeam.decoding.draft_laws import LevelLaw
from specbeam.decoding.rules import RULES, Continuations, Drafted, Noise
from specbeam.decoding.selection import Selection
from specbeam.engine import SearchSpec, Turn
from tests.exactness.cases import PLACES, World
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS, random_request
from tests.sampling import relaxed_search

world_of = cache(World.make)


def searches(
    world: World, place: str, who: str, spec: SearchSpec, factor: int, **how
) -> list[Turn]:
    target = world.search_model("target", "TRIE", place)
    draft = world.search_model(who, "TRIE", place)
    return relaxed_search(target, draft, spec, factor * spec.beam_width, **how)


def random_spec(world: World, rng: np.random.Generator, number: int) -> tuple[SearchSpec, set[int]]:
    """A request with filters, and the leaves they leave."""
    kinds = FILTER_COMBINATIONS[number % len(FILTER_COMBINATIONS)]
    prompt = world.prompts[number % len(world.prompts)]
    request = random_request(rng, world.catalogue, prompt, kinds)
    wanted = world.as_item_filter(request.item_filter)
    leaf_filter = world.compiler.compile(world.compiler.resolve(wanted))
    temperature = float(rng.choice([1.0, 0.5, 2.0]))
    selection = Selection("RELAXED", int(rng.integers(1 << 62)), temperature)
    items = world.trie.index_of(sorted(request.admitted))
    leaves = set(world.trie.leaves_of(items).tolist())
    return SearchSpec(np.array(prompt.tokens), request.beam_width, leaf_filter, selection), leaves


@pytest.mark.parametrize("maker", range(len(MAKERS)))
def test_answers_are_legal_as_many_as_possible_and_reproducible(maker: int) -> None:
    torch.set_num_threads(1)
    world, rng = world_of(maker), np.random.default_rng([maker, 31])
    for number in range(8):
        spec, leaves = random_spec(world, rng, 5 * number + maker)
        who = ("same", "noisy", "unrelated")[number % 3]
        how = {"one_pass": bool(number % 2), "max_rows": int(rng.choice([8, 64, 300]))}
        first, again, elsewhere = (
            searches(world, place, who, spec, 2, **how)[-1].beams
            for place in ("host", "host", "device")
        )
        np.testing.assert_array_equal(again.scores, first.scores)
        for beams in (again, elsewhere):
            np.testing.assert_array_equal(beams.nodes, first.nodes)
            np.testing.assert_allclose(beams.scores, first.scores, rtol=0, atol=1e-9)
        assert first.ranks is None
        assert set(first.nodes.tolist()) <= leaves
        assert len(first) == len(leaves) or (leaves and len(leaves) > spec.beam_width)
        assert len(first) > 0 or not leaves


@pytest.mark.parametrize("maker", range(len(MAKERS)))
def test_a_drafter_with_the_target_s_law_is_accepted_whole(maker: int) -> None:
    """With N = W, P is Q: the prompt, and one pass for the rest."""
    torch.set_num_threads(1)
    world = world_of(maker)
    for seed in range(6):
        prompt = np.array(world.prompts[seed % len(world.prompts)].tokens)
        spec = SearchSpec(prompt, 1 + seed, selection=Selection("RELAXED", seed, 1.3))
        turns = searches(world, PLACES[seed % 2], "same", spec, 1, max_rows=700)
        assert len(turns) <= 2


def test_the_residual_s_guard_is_reached_and_fills_up() -> None:
    """P = Q and nothing accepted: P - Q is empty, the missing ones come from P."""
    rng = np.random.default_rng(0)
    rule = RULES["RELAXED"]
    law = np.log(rng.dirichlet(np.ones(6)))[None]
    nothing = Drafted(law, np.zeros(law.shape, bool))
    gumbels = rng.gumbel(size=law.shape)
    uniform = np.full(law.shape, 0.5)
    chosen = rule.choose(
        Continuations(law, np.zeros(1), 3, nothing), Noise(gumbels, uniform, uniform)
    )
    assert not chosen.go_on
    want = np.sort(np.argsort(-(law + gumbels)[0])[:3])
    np.testing.assert_array_equal(chosen.positions, want)


def test_levels_below_nodes_that_were_no_parents_are_not_drafted() -> None:
    law = LevelLaw(np.array([4, 9]), np.array([[-0.7, -1.4], [-1.4, -np.inf]]), np.array([20]))
    found = law.of(np.array([9, 5, 4]), np.array([30, 24, 20]))
    np.testing.assert_array_equal(found.proposed, [[False, False], [False, False], [True, False]])
    np.testing.assert_array_equal(np.isfinite(found.logprobs).sum(axis=1), [1, 0, 2])
