"""Drawn trees: their law, and what they tell of it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chisquare

from specbeam.catalog import FilterCompiler, ItemFilter, ItemTrie, LeafFilter
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import draft_laws
from specbeam.decoding.noise import STREAMS, child_keys, gumbels, prefix_keys
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import node_of_each
from specbeam.drafting.question import ChildScorer, DraftQuestion
from specbeam.drafting.sampled import draw_tree

DEPTH = 4


@pytest.fixture(scope="module")
def trie() -> ItemTrie:
    rng = np.random.default_rng(3)
    paths = np.unique(rng.integers(0, 4, (90, DEPTH)), axis=0) + 3
    return ItemTrie.build(paths, [str(n) for n in range(len(paths))])


def scorer_of(trie: ItemTrie, seed: int, known: float = 1.0) -> ChildScorer:
    """Random laws; sub-distributions where some children are not known."""
    rng = np.random.default_rng(seed)
    tables = []
    for level in trie.levels[:-1]:
        table = rng.normal(-2.0, 1.5, (level.num_nodes, level.max_children))
        table[rng.random(table.shape) > known] = -np.inf
        tables.append(table)
    return lambda level, nodes: tables[level][nodes]


def some_beams(trie: ItemTrie, rng: np.random.Generator) -> Beams:
    level = int(rng.integers(0, DEPTH))
    count = min(4, trie.levels[level].num_nodes)
    nodes = np.sort(rng.choice(trie.levels[level].num_nodes, count, replace=False))
    return Beams(level, nodes, rng.normal(-3.0, 1.0, count))


def random_filter(trie: ItemTrie, rng: np.random.Generator) -> LeafFilter | None:
    compiler = FilterCompiler(trie)
    gone = np.flatnonzero(rng.random(trie.num_items) < rng.choice([0.0, 0.3, 0.9]))
    return compiler.compile(compiler.resolve(ItemFilter(excluded_items=gone)))


@pytest.mark.parametrize("seed", range(60))
def test_a_tree_tells_the_law_of_every_level(trie: ItemTrie, seed: int) -> None:
    """Read back as the target reads it, against a slow walk over Python dicts."""
    rng = np.random.default_rng(seed)
    beams, leaf_filter = some_beams(trie, rng), random_filter(trie, rng)
    question = DraftQuestion(trie, beams, 4, leaf_filter=leaf_filter)
    selection = Selection("RELAXED", seed, float(rng.choice([1.0, 0.5])), int(rng.choice([0, 2])))
    scorer = scorer_of(trie, seed, known=float(rng.choice([1.0, 0.6])))
    width = int(rng.integers(1, 9))
    tree = draw_tree(question, scorer, width, int(rng.integers(1, 5)), selection)
    node, level = node_of_each(trie, beams, tree)
    assert (node >= 0).all()
    assert tree.complete
    laws = draft_laws(trie, beams, tree)
    above = dict(zip(beams.nodes.tolist(), beams.scores.tolist(), strict=True))
    for depth in range(beams.level, int(level.max(initial=beams.level))):
        wanted = slow_children(trie, depth, above, scorer, leaf_filter, selection)
        total = np.logaddexp.reduce(list(wanted.values()))
        law = laws[depth]
        drawn = node[level == depth + 1].tolist()
        assert len(set(drawn)) == len(drawn) == min(width, len(wanted))
        assert set(drawn) <= set(wanted)
        assert law.drawn.tolist() == sorted(drawn)
        assert law.parents.tolist() == sorted(above)
        first = trie.levels[depth].first_child_of(law.parents)
        for child, score in wanted.items():
            row = int(trie.levels[depth].parent_of(np.array([child]))[0])
            place = law.parents.tolist().index(row)
            told = law.logprobs[place, child - first[place]]
            assert told == pytest.approx(score - total, abs=1e-5)
        assert np.isfinite(law.logprobs).sum() == len(wanted)
        above = {child: wanted[child] for child in drawn}


def slow_children(
    trie: ItemTrie,
    level: int,
    above: dict[int, float],
    scorer: ChildScorer,
    leaf_filter: LeafFilter | None,
    selection: Selection,
) -> dict[int, float]:
    """Cumulative scores of the children that may be drawn, one node after the other."""
    found: dict[int, float] = {}
    for parent, score in above.items():
        one = np.array([parent])
        first, end = (int(trie.levels[level].first_child_of(one + n)[0]) for n in (0, 1))
        row, steps = scorer(level, one)[0], {}
        for child in range(first, end):
            if leaf_filter is None or leaf_filter.alive(trie, level + 1, np.array([child]))[0]:
                steps[child] = float(row[child - first])
        if len(steps) == 1:
            steps = dict.fromkeys(steps, 0.0)
        likeliest = sorted(steps, key=lambda child: (-steps[child], child))
        kept = [c for c in likeliest[: selection.top_k or None] if steps[c] > -np.inf]
        weights = {c: np.exp(steps[c] / selection.temperature) for c in kept}
        for child in kept:
            found[child] = score + np.log(weights[child] / sum(weights.values()))
    return found


def test_one_draw_follows_the_law(trie: ItemTrie) -> None:
    rng = np.random.default_rng(1)
    beams = Beams(1, np.arange(3), rng.normal(-2.0, 0.5, 3))
    question, scorer = DraftQuestion(trie, beams, 3), scorer_of(trie, 5)
    counts: dict[int, int] = {}
    for seed in range(6000):
        tree = draw_tree(question, scorer, 1, 1, Selection("RELAXED", seed))
        node = int(node_of_each(trie, beams, tree)[0][0])
        counts[node] = counts.get(node, 0) + 1
    law = draft_laws(trie, beams, tree)[1]
    first = trie.levels[1].first_child_of(beams.nodes)
    expected = {
        int(first[row] + slot): 6000 * float(np.exp(law.logprobs[row, slot]))
        for row, slot in zip(*np.nonzero(law.logprobs > -np.inf), strict=True)
    }
    observed = [counts.get(node, 0) for node in expected]
    assert sum(observed) == 6000
    want = np.array(list(expected.values()))
    assert chisquare(observed, want * 6000 / want.sum()).pvalue > 1e-4


def test_draws_belong_to_seed_and_prefix(trie: ItemTrie) -> None:
    rng = np.random.default_rng(2)
    beams = Beams(1, np.arange(3), rng.normal(-2.0, 0.5, 3))
    question, scorer = DraftQuestion(trie, beams, 3), scorer_of(trie, 6)

    def tokens(seed: int, levels: int = 2) -> list[int]:
        tree = draw_tree(question, scorer, 4, levels, Selection("RELAXED", seed))
        return tree.tokens.tolist()

    assert tokens(9) == tokens(9)
    assert tokens(9)[:4] == tokens(9, 1)
    assert len({tuple(tokens(seed)) for seed in range(20)}) > 5


def test_nothing_is_drawn_below_the_last_drafted_level(trie: ItemTrie) -> None:
    beams = Beams(DEPTH - 1, np.arange(2), np.zeros(2))
    tree = draw_tree(DraftQuestion(trie, beams, 2), scorer_of(trie, 7), 5, 3, Selection("RELAXED"))
    assert len(tree) == 0
    assert draft_laws(trie, beams, tree) == {}


def test_draws_say_nothing_of_the_target_s_noise(trie: ItemTrie) -> None:
    """A drafter with the target's law and noise would draw what the target accepts or draws."""
    beams = Beams(1, np.arange(3), np.zeros(3))
    question, scorer = DraftQuestion(trie, beams, 3), scorer_of(trie, 8)
    children = trie.levels[1].first_child_of(beams.nodes)[:, None] + np.arange(4)
    tokens = trie.levels[2].tokens_of(children)
    agreeing, seeds = dict.fromkeys(STREAMS, 0), 400
    for seed in range(seeds):
        tree = draw_tree(question, scorer, 1, 1, Selection("RELAXED", seed))
        node = int(node_of_each(trie, beams, tree)[0][0])
        law = draft_laws(trie, beams, tree)[1].logprobs
        keys = child_keys(prefix_keys(seed, beams.paths(trie)), tokens)
        for stream in STREAMS:
            agreeing[stream] += int(children.flat[(law + gumbels(keys, stream)).argmax()]) == node
    by_chance = float(np.exp(2 * law[law > -np.inf]).sum())
    assert agreeing.pop("draft") == seeds
    for stream, count in agreeing.items():
        assert abs(count / seeds - by_chance) < 0.1, stream
