"""Popularity by prefix against dictionaries."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.decoding.beams import Beams
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sources.popularity import PopularityDrafter
from tests.bundles import tiny_bundle
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS
from tests.unit.drafting.slow_mass import SlowMass, some_nodes


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", range(3))
def test_children_are_scored_by_the_interactions_below(maker: int, seed: int) -> None:
    slow, rng = SlowMass.make(maker, seed), np.random.default_rng([seed, 43])
    weights = {name: item.popularity + 1.0 for name, item in slow.catalogue.items.items()}
    request = slow.request(seed, FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))])
    question = DraftQuestion(slow.trie, Beams.root(), 5, leaf_filter=slow.compiled(request))
    scorer = PopularityDrafter(slow.trie).scorer(question)
    assert scorer is not None
    for level in range(slow.depth):
        nodes = some_nodes(slow.trie, level, rng)
        want = slow.child_logprobs(level, nodes, weights, request.admitted)
        np.testing.assert_allclose(scorer(level, nodes), want, atol=1e-9)


def test_every_bundle_has_it() -> None:
    drafter = PopularityDrafter.load(tiny_bundle())
    assert drafter is not None and drafter.name == "popularity"
