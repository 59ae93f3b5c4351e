"""Relaxed searches of several levels: drawn trees, their laws, and the walk, against their law."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pytest

from specbeam.decoding import noise
from specbeam.decoding.beams import Beams
from specbeam.decoding.draft_laws import DraftLaws, draft_laws
from specbeam.decoding.selection import Selection
from specbeam.decoding.tree import CandidateTree
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
DRAWS = 4000
WIDTH, DRAFT_WIDTH = 2, 3


def unlike(law: TreeLaw) -> TreeLaw:
    """A draft: the same tree with other laws."""
    source = random.Random(5)

    def other(_: Path, row: Mapping[int, Fraction]) -> dict[int, Fraction]:
        foreign = random_law(source, len(row), zeros=0.0)
        return {token: (mass + foreign[n]) / 2 for n, (token, mass) in enumerate(row.items())}

    return law.changed(other)


def draw_tree(law: TreeLaw, base: dict[Path, float], seed: int) -> tuple[CandidateTree, set[Path]]:
    """Keyed draws without replacement on every level but the last, and the law they came from.

    Args:
        law: of the draft.
        base: cumulative score of each exact beam, in ascending order of paths.
        seed: of the draws.
    """
    level = len(next(iter(base)))
    parents, drawn, told = dict(base), list[Path](), list[float]()
    number = {path: place for place, path in enumerate(base)}
    for _ in range(level, law.depth - 1):
        children = {
            (*path, token): score + float(np.log(float(mass)))
            for path, score in parents.items()
            for token, mass in law.children[path].items()
        }
        told += children.values()
        keys = noise.prefix_keys(seed, np.array(list(children)))
        values = np.array(list(children.values())) + noise.gumbels(keys, "draft")
        paths = list(children)
        best = [paths[place] for place in np.argsort(-values)[:DRAFT_WIDTH]]
        number |= {path: len(number) + place for place, path in enumerate(best)}
        parents = {path: children[path] for path in best}
        drawn += best
    tree = CandidateTree(
        level,
        np.array([number[path[:-1]] for path in drawn], np.int64),
        np.array([path[-1] for path in drawn], np.int64),
        complete=True,
        child_scores=np.array(told),
    )
    return tree, set(drawn)


def relaxed_items(target: ToyTarget, q: TreeLaw, seed: int) -> frozenset[Path]:
    """One relaxed search: a tree a round, then the last level."""
    selection = Selection("RELAXED", seed)
    allowed = target.expansion.allow(None, selection)
    beams = Beams.root(selection)
    while beams.level < target.trie.depth:
        drafted: set[Path] = set()
        laws: DraftLaws = {}
        if beams.level < target.trie.depth - 1:
            paths = [tuple(path) for path in beams.paths(target.trie).tolist()]
            base = dict(zip(paths, beams.scores.tolist(), strict=True))
            tree, drafted = draw_tree(q, base, seed)
            laws = draft_laws(target.trie, beams, tree)
        beams = target.step(beams, drafted, WIDTH, allowed, laws)
    return frozenset(target.answer(beams))


@pytest.mark.slow
def test_searches_have_the_enumerated_law() -> None:
    """Q counts the children of drafted prefixes that were not kept, P those of the beams only."""
    q, target = unlike(P), ToyTarget(P, "TRIE")
    found = Counter(relaxed_items(target, q, seed) for seed in range(DRAWS))
    assert chi_square_p(found, items_law(P, q, DRAFT_WIDTH, WIDTH)) > 1e-4
    assert chi_square_p(found, sets_without_replacement(P.items(), WIDTH)) < 1e-12
