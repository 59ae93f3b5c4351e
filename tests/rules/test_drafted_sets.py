"""Whatever is drafted, the answer is the plain search's: all sets of a small trie, one by one."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import Selection
from tests.rules import production
from tests.rules.checks import TOY as SMALL
from tests.rules.drafted_sets import ToyTarget, plain_top_k, subsets
from tests.rules.laws import TreeLaw, filtered, tempered, tree_of

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


@pytest.mark.parametrize("seed", range(2))
def test_the_same_items_are_drawn_whatever_is_drafted(seed: int) -> None:
    """Scores and ranks, too, to the last bit: noise belongs to prefixes, not to rows."""
    target, passes = ToyTarget(TOY, "TRIE"), Counter[int]()
    selection = Selection("GUMBEL", seed)
    allowed = target.expansion.allow(None, selection)
    for width in (2, 3):
        noise_of = production.keyed("GUMBEL", seed)
        wanted = production.search("GUMBEL", TOY, width, seed, noise_of)[-1]
        for drafted in subsets(target.drafts):
            beams, took = target.search(Beams.root(selection), drafted, width, allowed)
            assert target.answer(beams) == list(wanted.by_rank()), drafted
            assert beams.scores.tolist() == wanted.scores.tolist()
            assert beams.rank_values.tolist() == wanted.ranks.tolist()
            passes[took] += 1
    assert set(passes) == {1, 2, 3}


def test_on_a_device_they_are_the_same() -> None:
    target = ToyTarget(SMALL, "TRIE", torch.device("cpu"))
    for seed in range(2):
        selection = Selection("GUMBEL", seed)
        allowed = target.expansion.allow(None, selection)
        noise_of = production.keyed("GUMBEL", seed)
        wanted = production.search("GUMBEL", SMALL, 2, seed, noise_of)[-1]
        for drafted in subsets(target.drafts):
            beams, _ = target.search(Beams.root(selection), drafted, 2, allowed)
            assert target.answer(beams) == list(wanted.by_rank()), drafted
            np.testing.assert_allclose(beams.rank_values, wanted.ranks, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("base", "temperature", "top_k", "law"),
    [
        (SMALL, 0.5, 0, tempered(SMALL, 2)),
        (SMALL, 1.0, 1, filtered(SMALL, 1)),
        (TOY, 1 / 3, 2, tempered(filtered(TOY, 2), 3)),
    ],
)
@pytest.mark.parametrize("device", [None, torch.device("cpu")])
def test_temperature_and_top_k_change_the_law_of_each_step(
    base: TreeLaw, temperature: float, top_k: int, law: TreeLaw, device: torch.device | None
) -> None:
    target = ToyTarget(base, "TRIE", device)
    for seed in range(6):
        selection = Selection("GUMBEL", seed, temperature, top_k)
        allowed = target.expansion.allow(None, selection)
        wanted = production.search("GUMBEL", law, 3, seed, production.keyed("GUMBEL", seed))[-1]
        for drafted in islice(subsets(target.drafts), 0, None, 29):
            beams, _ = target.search(Beams.root(selection), drafted, 3, allowed)
            assert target.answer(beams) == list(wanted.by_rank()), drafted
            np.testing.assert_allclose(beams.scores, wanted.scores, rtol=0, atol=1e-12)


def test_without_a_law_relaxed_sampling_does_not_see_what_is_drafted() -> None:
    target = ToyTarget(TOY, "TRIE")
    for seed in range(2):
        selection = Selection("RELAXED", seed)
        allowed = target.expansion.allow(None, selection)
        wanted = production.search("RELAXED", TOY, 3, seed, production.keyed("RELAXED", seed))[-1]
        for drafted in islice(subsets(target.drafts), 0, None, 3):
            beams, _ = target.search(Beams.root(selection), drafted, 3, allowed)
            assert target.answer(beams) == list(wanted.by_rank())
