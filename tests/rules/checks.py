"""What the production rules must pass, as numbers: 0 for the right ones, more for wrong ones.

Each is a small form of a test of this directory, quick enough to be tried on many mistakes.
"""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np

from specbeam.decoding.beams import Beams
from specbeam.decoding.selection import Selection
from tests.rules import production
from tests.rules.chi_square import chi_square_p
from tests.rules.drafted_sets import ToyTarget, subsets
from tests.rules.following import coarse, drawn, follow
from tests.rules.laws import random_tree, tree_of, without_replacement
from tests.rules.production import keyed
from tests.rules.relaxed_cases import TARGET, Case
from tests.rules.relaxed_cases import drawn as drawn_relaxed
from tests.rules.relaxed_laws import level_law
from tests.rules.report import at_distance

TOY = tree_of(
    3,
    {
        (): [3, 2],
        (0,): [2, 1],
        (1,): [1, 2],
        (0, 0): [1, 1],
        (0, 1): [1, 2],
        (1, 0): [2, 1],
        (1, 1): [1, 3],
    },
)
SAMPLED = tree_of(2, {(): [6, 4, 2], (0,): [1, 2, 3], (1,): [5, 1, 0], (2,): [1, 0]})
EVEN = tree_of(2, {(): [1] * 3, (0,): [1] * 3, (1,): [1] * 3, (2,): [1] * 3})
# A smaller chance than this is taken for a mistake.
UNLIKELY = 1e-6


def race() -> float:
    """Levels at which the beams are not those that arrive first on the same noise."""
    source, wrong = random.Random(9), 0
    for seed in range(60):
        law = random_tree(source, 2, 4, zeros=0.25)
        wrong += follow(law, 1 + seed % 4, seed, keyed("GUMBEL", seed))["wrong"]
    return wrong


def ties() -> float:
    """The same with noise so coarse that clocks tie."""
    return sum(follow(EVEN, 1 + seed % 4, seed, coarse(seed, 1.0))["wrong"] for seed in range(60))


def drafts() -> float:
    """Drafted sets that change what is found, its order, or its ranks."""
    target, wrong = ToyTarget(TOY, "TRIE"), 0
    for seed in range(2):
        selection = Selection("GUMBEL", seed)
        allowed = target.expansion.allow(None, selection)
        told = set()
        for drafted in subsets(target.drafts):
            beams, _ = target.search(Beams.root(selection), drafted, 2, allowed)
            told.add((tuple(target.answer(beams)), *beams.rank_values.tolist()))
        wrong += len(told) - 1
    return wrong


def items_law() -> float:
    """1 where counts of drawn items are not those of draws without replacement."""
    wanted = without_replacement(SAMPLED.items(), 2)
    return float(chi_square_p(drawn(SAMPLED, 2, 2500), wanted) < UNLIKELY)


def best_rank_law() -> float:
    """1 where the best item's rank value is not distributed as Gumbel noise around 0.

    It is the largest perturbed score of the whole catalogue.
    """
    ranks = []
    for seed in range(600):
        beams, noise_of = Beams.root(Selection("GUMBEL", seed)), keyed("GUMBEL", seed)
        level = production.Level(((),), beams.scores, beams.rank_values)
        ranks.append(production.step("GUMBEL", SAMPLED, level, 1, noise_of)[0].ranks[0])
    below = np.exp(-np.exp(-np.sort(ranks)))
    places = np.arange(len(ranks)) / len(ranks)
    # Kolmogorov's distance; 2.7 is exceeded with chance 1e-6.
    distance = max((below - places).max(), (places + 1 / len(ranks) - below).max())
    return float(distance * len(ranks) ** 0.5 > 2.7)


def relaxed_steps() -> float:
    """Cases in which the relaxed rule decides otherwise than the slow one."""
    return sum(Case(seed).differs() for seed in range(300))


def relaxed_law() -> float:
    """1 where counts of relaxed beams are not those of the enumeration."""
    q = at_distance(TARGET, Fraction(1, 4))
    return float(chi_square_p(drawn_relaxed(q, 4, 2, 2500), level_law(TARGET, q, 4, 2)) < UNLIKELY)


CHECKS = (race, ties, drafts, items_law, best_rank_law, relaxed_steps, relaxed_law)
