"""Drafters rank nodes by their own laws with the target's noise."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.laws import shaped_law
from specbeam.decoding.noise import child_keys, conditional_ranks, gumbels, prefix_keys
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.decoding.scoring import Scoring
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import node_of_each
from specbeam.engine import DraftSession, SearchModel
from specbeam.engine.root_head import RootHead
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig
from specbeam.engine.search import draft_levels
from tests.exactness.models import random_model, runner_of

PROMPT = np.array([1, 5, 9, 4])
WIDTH, NODES = 4, 7
SELECTIONS = [
    Selection("GUMBEL", 3),
    Selection("GUMBEL", 2**63 + 1, 0.6, 2),
    Selection("RELAXED", 3, 1.5),
]


@pytest.fixture(scope="module")
def trie() -> ItemTrie:
    rng = np.random.default_rng(0)
    paths = np.unique(rng.integers(0, 5, (80, 4)), axis=0) + 3 + 5 * np.arange(4)
    return ItemTrie.build(paths, [str(n) for n in range(len(paths))])


@pytest.fixture(scope="module")
def model(trie: ItemTrie) -> SearchModel:
    torch.set_num_threads(1)
    return SearchModel.of(runner_of(random_model(2, 24)), trie, Scoring("VOCAB"))


def beams_below(trie: ItemTrie, level: int, selection: Selection) -> Beams:
    """Any beams; what a drafter starts from is the target's affair."""
    if not level:
        return Beams.root(selection)
    rng = np.random.default_rng(level)
    nodes = np.arange(0, trie.levels[level].num_nodes, 2)[:WIDTH]
    ranks = rng.normal(size=len(nodes)) if selection.perturbs else None
    return Beams(level, nodes, rng.normal(-3.0, 1.0, len(nodes)), ranks)


def by_model(model: SearchModel, beams: Beams, selection: Selection, nodes: int) -> ScoredTree:
    with closing(DraftSession(model.under("TRIE"), WIDTH, None, selection)) as drafting:
        drafting.open(PROMPT)
        return draft_levels(drafting, beams, 1, nodes)


def by_head(model: SearchModel, beams: Beams, selection: Selection, nodes: int) -> ScoredTree:
    runner = model.runner
    blocks = StateBlocks(runner.hidden_size, 3, 2).to(runner.dtype).eval().requires_grad_(False)
    shape = RootHeadConfig(runner.hidden_size, runner.vocab_size, 3, 3, "target")
    head = RootHead(shape, blocks, model)
    slot = runner.pool.acquire()
    hidden = runner.prefill(slot, PROMPT).clone()
    runner.pool.release(slot)
    return head.propose(hidden, beams, 1, nodes, WIDTH, None, selection)


@pytest.mark.parametrize("draft", [by_model, by_head], ids=["model", "head"])
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_best_by_the_target_s_noise_are_proposed(
    trie: ItemTrie, model: SearchModel, draft, selection: Selection, level: int
) -> None:
    """What is told of all children is enough to rank them again."""
    beams = beams_below(trie, level, selection)
    whole = Selection(selection.rule, selection.seed)
    everything = draft(model, beams, whole, 10_000)
    node, _ = node_of_each(trie, beams, everything)
    law = np.full((len(beams), trie.levels[level].max_children), -np.inf)
    first = trie.levels[level].first_child_of(beams.nodes)
    law[everything.parents, node - first[everything.parents]] = everything.logprobs
    np.testing.assert_allclose(np.exp(law).sum(axis=1), 1.0, atol=1e-5)  # TRIE, not VOCAB
    scores = beams.scores[:, None] + shaped_law(law, selection)
    values = scores
    if selection.perturbs:
        children = np.minimum(
            first[:, None] + np.arange(law.shape[1]), trie.levels[level + 1].num_nodes - 1
        )
        keys = child_keys(
            prefix_keys(selection.seed, beams.paths(trie)),
            trie.levels[level + 1].tokens_of(children),
        )
        values = conditional_ranks(beams.rank_values, scores, gumbels(keys))
    live = int((values > -np.inf).sum())
    want = np.argsort(-values.ravel(), kind="stable")[: min(NODES, live)]
    tree = draft(model, beams, selection, NODES)
    parents, slots = np.divmod(want, law.shape[1])
    assert tree.parents.tolist() == parents.tolist()
    assert node_of_each(trie, beams, tree)[0].tolist() == (first[parents] + slots).tolist()
    # Told are the drafter's own laws; whoever mixes them applies temperature and top-k.
    np.testing.assert_allclose(tree.logprobs, law[parents, slots], rtol=0, atol=1e-6)


def test_below_the_root_the_noise_of_the_seed_is_enough(trie: ItemTrie, model: SearchModel) -> None:
    """A caller need not know the root's own noise."""
    selection = SELECTIONS[0]
    told = by_model(model, Beams.root(selection), selection, NODES)
    untold = by_model(model, Beams.root(), selection, NODES)
    assert told.tokens.tolist() == untold.tokens.tolist()


def test_scores_that_are_no_law_are_not_drawn_from(model: SearchModel) -> None:
    before = model.runner.pool.free
    with pytest.raises(ValueError, match="needs TRIE"):
        DraftSession(model, WIDTH, None, SELECTIONS[0])
    assert model.runner.pool.free == before
