"""Our plain and speculative searches equal transformers' own constrained beam search."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.scoring import Scoring
from specbeam.engine import (
    SearchModel,
    SearchSpec,
    SpeculationSpec,
    Turn,
    plain_search,
    speculative_search,
)
from specbeam.engine.transformers_beam import allowed_children, transformers_beam_search
from tests.exactness.models import FAMILIES, noisy_copy, random_model, runner_of

# In fp64 two scores closer than this may be rounded either way by another summation order.
NEAR_TIE = 1e-9


LLAMA = [("llama", seed) for seed in range(13)]
OTHERS = [(family, seed) for family in sorted(FAMILIES) if family != "llama" for seed in (0, 1)]


@pytest.mark.parametrize("kind", ["VOCAB", "TRIE"])
@pytest.mark.parametrize(("family", "seed"), LLAMA + OTHERS)
def test_equals_transformers_beam_search(family: str, seed: int, kind: str) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(seed)
    depth, codes = 2 + seed % 4, 12 + seed % 5
    paths = np.unique(rng.integers(0, codes, (400, depth)), axis=0) + 3 + np.arange(depth) * codes
    trie = ItemTrie.build(paths, [str(n) for n in range(len(paths))])
    allowed, scoring = allowed_children(trie), Scoring(kind)
    model = random_model(
        seed, 3 + depth * codes + 5, layers=2, kv_heads=1 + seed % 2, family=family
    )
    target, draft = runner_of(model), runner_of(noisy_copy(model, seed, 0.05))
    children_of_root = trie.levels[1].num_nodes
    for width in [1, 2, 3, 5, 8, 10, 11, 12]:
        width = min(width, children_of_root)
        prompt = np.concatenate([[1], rng.integers(3, 3 + depth * codes, int(rng.integers(0, 30)))])
        theirs = transformers_beam_search(model, allowed, prompt, width, depth, kind)
        spec = SearchSpec(prompt, width)
        for turn in (
            plain_search(SearchModel.of(target, trie, scoring), spec),
            speculative_search(
                SearchModel.of(target, trie, scoring),
                SearchModel.of(draft, trie, scoring),
                spec,
                SpeculationSpec(),
            ),
        ):
            _compare(trie, turn, theirs.paths, theirs.scores)


def _compare(trie: ItemTrie, turn: Turn, paths: np.ndarray, scores: np.ndarray) -> None:
    order = np.lexsort((turn.beams.nodes, -turn.beams.scores))
    ours, our_scores = turn.beams.paths(trie)[order], turn.beams.scores[order]
    gaps = np.diff(our_scores)
    assert len(gaps) == 0 or np.abs(gaps).min() > NEAR_TIE, "a near tie would make order moot"
    np.testing.assert_array_equal(ours, paths)
    if len(our_scores) > 1:
        # transformers keeps running scores in fp32 whatever the model's dtype.
        np.testing.assert_allclose(our_scores, scores, rtol=0, atol=2e-5)
