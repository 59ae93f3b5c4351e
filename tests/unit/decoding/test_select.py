"""Selection, candidate trees and K-consistent drafting against obvious code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.decoding.beams import Beams
from specbeam.decoding.device_expansion import select_top
from specbeam.decoding.draft import Frontier, propose_level
from specbeam.decoding.host_expansion import select_top_host
from specbeam.decoding.shape import DraftShape, draft_shape
from specbeam.decoding.tree import CandidateTree, resolve_tree, widen_exhaustively
from tests.unit.catalog.test_trie import random_catalog


@pytest.mark.parametrize("seed", range(200))
def test_select_top_is_a_stable_descending_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, int(rng.integers(1, 30)), int(rng.integers(1, 300))).astype(float)
    values[rng.random(len(values)) < 0.2] = -np.inf
    width = int(rng.integers(1, len(values) + 1))
    want = sorted(np.argsort(-values, kind="stable")[:width].tolist())
    assert select_top(torch.tensor(values), width).tolist() == want
    finite = [place for place in want if values[place] > -np.inf]
    assert select_top_host(values, width).tolist() == finite


def obvious_resolve(trie: ItemTrie, beams: Beams, tree: CandidateTree) -> dict[int, list[int]]:
    """Node by node, as the rules read."""
    levels: dict[int, list[int]] = {}
    place: dict[int, tuple[int, int]] = {
        i: (beams.level, int(node)) for i, node in enumerate(beams.nodes)
    }
    for number, (parent, token) in enumerate(zip(tree.parents, tree.tokens, strict=True)):
        own = len(beams) + number
        if not 0 <= parent < own or int(parent) not in place:
            continue
        level, node = place[int(parent)]
        if level + 1 >= trie.depth:
            continue
        child = int(trie.child(level, np.array([node]), np.array([token]))[0])
        if child < 0:
            continue
        place[own] = (level + 1, child)
        nodes = levels.setdefault(level + 1, [])
        if child not in nodes:
            nodes.append(child)
    return levels


@pytest.mark.parametrize("seed", range(60))
def test_resolve_tree_keeps_what_is_in_the_trie(seed: int) -> None:
    paths, ids, _ = random_catalog(seed)
    trie = ItemTrie.build(paths, ids)
    rng = np.random.default_rng(seed)
    level = int(rng.integers(0, trie.depth))
    nodes = np.flatnonzero(rng.random(trie.levels[level].num_nodes) < 0.5)
    beams = Beams(level, nodes, np.zeros(len(nodes)))
    count = int(rng.integers(0, 200))
    parents = rng.integers(-2, len(nodes) + count, count)
    tree = CandidateTree(level, parents, rng.integers(0, 25, count))
    resolved = resolve_tree(trie, beams, tree)
    want = obvious_resolve(trie, beams, tree)
    assert {d: n.tolist() for d, n in resolved.levels.items()} == want
    assert resolved.dropped == count - sum(map(len, want.values()))
    wrong = CandidateTree(level + 1, parents, tree.tokens)
    assert resolve_tree(trie, beams, wrong).dropped == count


@pytest.mark.parametrize("seed", range(60))
def test_widened_tree_is_closed_and_within_budget(seed: int) -> None:
    paths, ids, _ = random_catalog(seed)
    trie = ItemTrie.build(paths, ids)
    rng = np.random.default_rng(seed)
    beams = Beams(0, np.zeros(1, np.int64), np.zeros(1))
    drafted = {
        level: rng.permutation(trie.levels[level].num_nodes)[: int(rng.integers(0, 30))]
        for level in range(1, trie.depth)
    }
    budget = int(rng.integers(-5, 80))
    everything = lambda level, nodes: np.ones(len(nodes), bool)  # noqa: E731
    levels = widen_exhaustively(trie, beams, drafted, budget, everything, everything)
    assert sum(map(len, levels.values())) <= max(budget, 0)
    for level, nodes in levels.items():
        assert level < trie.depth and len(set(nodes.tolist())) == len(nodes)
        parents = {tuple(p[:-1]) for p in trie.node_paths(level, nodes).tolist()}
        above = levels[level - 1] if level > 1 else beams.nodes
        assert parents <= {tuple(p) for p in trie.node_paths(level - 1, above).tolist()}


def test_drafting_wider_keeps_the_narrow_beam() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        logprobs = np.log(rng.dirichlet(np.ones(6), 12))
        scores = rng.normal(size=12)
        in_beam = np.zeros(12, bool)
        in_beam[rng.choice(12, 4, replace=False)] = True
        children = np.arange(72).reshape(12, 6)
        frontier = Frontier(np.arange(12), scores, in_beam)
        wide, parents = propose_level(frontier, children, logprobs, 4, 20)
        total = scores[:, None] + logprobs
        narrow = np.argsort(-np.where(in_beam[:, None], total, -np.inf).reshape(-1))[:4]
        assert set(narrow.tolist()) == set(wide.nodes[wide.in_beam].tolist())
        assert len(wide.nodes) == 20 and (np.diff(wide.scores) <= 0).all()
        np.testing.assert_array_equal(parents, wide.nodes // 6)
        np.testing.assert_allclose(wide.scores, total.reshape(-1)[wide.nodes])


@pytest.mark.parametrize(
    ("fan_outs", "base", "max_rows", "expected"),
    [
        # Level 2 is fat, level 3 has 1.7 children: a node costs 1 + 1.5 * 1.7 rows.
        ((64.0, 30.0, 1.7, 1.1), 1, 128, DraftShape(1, int(118 / 3.55))),
        ((64.0, 30.0, 1.7, 1.1), 2, 128, DraftShape(0, 33)),
        # Everything above the last level is fat.
        ((64.0, 30.0, 9.0, 1.1), 1, 64, DraftShape(2, 27)),
        # Never more than four nodes per beam, never fewer than the beam.
        ((256.0, 256.0, 15.0), 1, 512, DraftShape(1, 40)),
        ((64.0, 30.0, 1.7, 1.1), 1, 12, DraftShape(1, 10)),
        ((5.0,), 0, 128, DraftShape(0, 40)),
    ],
)
def test_draft_shape(
    fan_outs: tuple[float, ...], base: int, max_rows: int, expected: DraftShape
) -> None:
    assert draft_shape(fan_outs, base, 10, max_rows) == expected
