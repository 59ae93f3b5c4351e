"""Whatever is drafted, the answer is the plain search's: all sets of a small trie, one by one."""

from __future__ import annotations

from collections import Counter

import pytest

from specbeam.decoding.beams import Beams
from tests.rules.drafted_sets import ToyTarget, plain_top_k, subsets
from tests.rules.laws import tree_of

# Three levels, nine prefixes that may be drafted: ties, an impossible item, an only child.
TOY = tree_of(
    3,
    {
        (): [3, 3, 2],
        (0,): [2, 1],
        (1,): [1, 2, 1],
        (2,): [1],
        (0, 0): [1, 1],
        (0, 1): [1, 0],
        (1, 0): [2, 1],
        (1, 1): [1],
        (1, 2): [1, 3],
        (2, 0): [1, 2, 1],
    },
)
WIDTHS = (1, 2, 3, 4)


@pytest.mark.parametrize("kind", ["VOCAB", "TRIE"])
def test_the_best_are_found_whatever_is_drafted(kind: str) -> None:
    target, passes = ToyTarget(TOY, kind), Counter[int]()
    allowed = target.expansion.allow(None)
    for width in WIDTHS:
        wanted = plain_top_k(TOY, width)
        for drafted in subsets(target.drafts):
            beams, took = target.search(Beams.root(), drafted, width, allowed)
            assert target.answer(beams) == wanted, drafted
            passes[took] += 1
        assert target.search(Beams.root(), target.drafts, width, allowed)[1] == 1
    print(f"passes: {dict(passes)}")
    assert set(passes) == {1, 2, 3}
