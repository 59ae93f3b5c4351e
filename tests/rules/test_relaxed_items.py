"""Relaxed searches of several levels: drawn trees, their laws, and the walk, against their law."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import draft_laws
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import node_of_each
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sampled import draw_tree
from tests.rules.chi_square import chi_square_p
from tests.rules.drafted_sets import ToyTarget
from tests.rules.laws import Path, TreeLaw, random_law, sets_without_replacement, tree_of
from tests.rules.relaxed_laws import items_law

P = tree_of(
    3,
    {
        (): [4, 3, 2],
        (0,): [2, 3],
        (1,): [1, 1, 2],
        (2,): [3, 1],
        (0, 0): [1, 2],
        (0, 1): [1],
        (1, 0): [2, 3],
        (1, 1): [1, 1],
        (1, 2): [5, 1],
        (2, 0): [1, 3],
        (2, 1): [2, 1],
    },
)
DRAWS = 3000
WIDTH, DRAFT_WIDTH = 2, 3


def unlike(law: TreeLaw) -> TreeLaw:
    """A draft: the same tree with other laws."""
    source = random.Random(5)

    def other(_: Path, row: Mapping[int, Fraction]) -> dict[int, Fraction]:
        foreign = random_law(source, len(row), zeros=0.0)
        return {token: (mass + foreign[n]) / 2 for n, (token, mass) in enumerate(row.items())}

    return law.changed(other)


def relaxed_items(target: ToyTarget, draft: ToyTarget, seed: int) -> frozenset[Path]:
    """One relaxed search: a tree a round, then the last level."""
    selection = Selection("RELAXED", seed)
    allowed = target.expansion.allow(None, selection)
    beams = Beams.root(selection)
    while beams.level < target.trie.depth:
        question = DraftQuestion(target.trie, beams, WIDTH)
        tree = draw_tree(question, draft.scorer, DRAFT_WIDTH, target.trie.depth, selection)
        node, level = node_of_each(target.trie, beams, tree)
        drafted = {
            tuple(target.trie.node_paths(int(at), np.array([one]))[0].tolist())
            for one, at in zip(node, level, strict=True)
        }
        laws = draft_laws(target.trie, beams, tree)
        beams = target.step(beams, drafted, WIDTH, allowed, laws)
    return frozenset(target.answer(beams))


@pytest.mark.slow
def test_searches_have_the_enumerated_law() -> None:
    """Q counts the children of drafted prefixes that were not kept, P those of the beams only."""
    q, target = unlike(P), ToyTarget(P, "TRIE")
    draft = ToyTarget(q, "TRIE")
    found = Counter(relaxed_items(target, draft, seed) for seed in range(DRAWS))
    assert chi_square_p(found, items_law(P, q, DRAFT_WIDTH, WIDTH)) > 1e-4
    assert chi_square_p(found, sets_without_replacement(P.items(), WIDTH)) < 1e-12
