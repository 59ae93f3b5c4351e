"""What a pass reports equals a slow walk over dicts, node by node, ties included.

The walk reads the same scored rows, so that scores are equal to the last bit; that those rows are
right is `test_expansion`'s matter.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from specbeam.decoding.beams import Beams
from specbeam.decoding.expansion import Allowed, AnyExpansion, ScoredLevel
from specbeam.decoding.scored_tree import ScoredTree
from specbeam.drafting.verified import VerifiedTree
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS, random_request
from tests.exactness.test_expansion import NO_PROMPT, Table, beams_of, pick_rows, score_rows

CASES_PER_CATALOGUE = 20
Node = tuple[int, int, float]  # number of the parent in the tree, token, log-probability


def slow_report(
    expansion: AnyExpansion,
    beams: Beams,
    scored: dict[int, ScoredLevel],
    allowed: Allowed,
    width: int,
    count: int,
    decided: int,
) -> list[Node]:
    """The best `count` children of the exact beams of each level, and from those the beams."""
    trie, told = expansion.trie, []
    known = {}
    for node, score in zip(beams.nodes.tolist(), beams.scores.tolist(), strict=True):
        known[node] = (score, len(known))
    for level in range(beams.level, min(decided, trie.depth - 1)):
        found = []
        for node, (score, number) in known.items():
            (row,) = expansion.logprobs_of(level, np.array([node]), scored.get(level), allowed)
            first, end = trie.levels[level].first_child_of(np.array([node, node + 1])).tolist()
            for child, logprob in zip(range(first, end), row.tolist(), strict=False):
                if logprob > -np.inf:
                    found.append((-(score + logprob), child, number, logprob))
        best, known = sorted(found)[: max(count, width)], {}
        for place, (negative, child, number, logprob) in enumerate(best):
            if place < width:
                known[child] = (-negative, len(beams) + len(told))
            (token,) = trie.levels[level + 1].tokens_of(np.array([child])).tolist()
            told.append((number, token, logprob))
    return told


def nodes_of(tree: ScoredTree | None) -> list[Node]:
    if tree is None:
        return []
    columns = tree.parents.tolist(), tree.tokens.tolist(), tree.logprobs.tolist()
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("convention", ["VOCAB", "LEVEL", "TRIE"])
@pytest.mark.parametrize("grid", [0.0, 2.0])
def test_reports_equal_a_slow_walk(maker: int, convention: str, grid: float) -> None:
    torch.set_num_threads(1)
    table = Table.make(maker, 5, convention, grid)
    rng, seen = np.random.default_rng([maker, 21]), Counter()
    for number in range(CASES_PER_CATALOGUE):
        kinds = FILTER_COMBINATIONS[number % len(FILTER_COMBINATIONS)]
        request = random_request(rng, table.catalogue, NO_PROMPT, kinds)
        if not request.admitted:
            continue
        want, width = table.answer(request), request.beam_width
        base = int(rng.integers(0, table.trie.depth))
        rows, decided = pick_rows(table, want, request, base, rng)
        if decided == base:
            continue
        start = beams_of(table, base, want.candidates[base - 1][:width] if base else ())
        count = int(rng.choice([width, width + 3, 1000]))
        for expansion in table.expansions.values():
            allowed = expansion.allow(table.compiled(request))
            scored = score_rows(table, expansion, rows, allowed)
            plain = expansion.verify(start, scored, width, allowed)
            got = expansion.verify(start, scored, width, allowed, count)
            assert plain.scored is None
            np.testing.assert_array_equal(got.beams.nodes, plain.beams.nodes)
            np.testing.assert_array_equal(got.beams.scores, plain.beams.scores)
            told = slow_report(expansion, start, scored, allowed, width, count, plain.beams.level)
            rounded = [(p, t, float(np.float32(logprob))) for p, t, logprob in told]
            assert nodes_of(got.scored) == rounded
            check_joined(table, start, got.scored, plain.beams, len(told))
            seen["nodes"] += len(told)
            seen["deep"] += min(plain.beams.level, table.trie.depth - 1) > base + 1
            seen["ties"] += len({logprob for *_, logprob in told}) < len(told)
    assert seen["nodes"] or table.trie.depth == 1
    if table.catalogue.kind != "tiny" and table.trie.depth > 2:
        assert seen["deep"]
        assert seen["ties"] or not grid


def check_joined(
    table: Table, start: Beams, tree: ScoredTree | None, beams: Beams, nodes: int
) -> None:
    """Whoever keeps the report finds every node in the trie, the exact beams among them."""
    if tree is None:
        return
    joined = VerifiedTree.join(table.trie, [(start, tree)])
    assert len(joined) == nodes
    if beams.level < table.trie.depth and len(beams):
        assert np.isin(beams.nodes, joined.levels[beams.level].nodes).all()
