"""The production rule for stochastic beam search is the race that the enumeration proves."""

from __future__ import annotations

import math
import random
from collections import Counter
from fractions import Fraction

import numpy as np

from specbeam.decoding.noise import conditional_ranks
from specbeam.decoding.rules import Noise
from tests.rules import production
from tests.rules.chi_square import chi_square_p
from tests.rules.following import coarse, drawn, follow
from tests.rules.laws import Law, Path, random_tree, tree_of, without_replacement
from tests.rules.production import NoiseOf, keyed
from tests.rules.race_steps import child_times
from tests.rules.races import first, fresh_noise, race_of

SEARCHES = 900
# Sampled laws: total weight 12 on every node, two items that cannot come out.
SAMPLED = tree_of(2, {(): [6, 4, 2], (0,): [1, 2, 3], (1,): [5, 1, 0], (2,): [1, 0]})
DRAWS = 5000


def test_ranks_of_children_are_their_arrival_times() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        rows, columns = int(rng.integers(1, 5)), int(rng.integers(1, 7))
        scores = rng.normal(-3, 3, (rows, columns))
        scores[rng.random(scores.shape) < 0.3] = -np.inf
        noise = rng.gumbel(size=scores.shape)
        parents = rng.gumbel(size=rows)
        ranks = conditional_ranks(parents, scores, noise)
        for row in range(rows):
            start = Fraction(math.exp(-parents[row]))
            times = child_times(start, scores[row] + noise[row])
            wanted = [-math.inf if time is None else -math.log(time) for time in times]
            np.testing.assert_allclose(ranks[row], wanted, rtol=1e-9, atol=1e-9)
            if np.isfinite(scores[row]).any():
                assert ranks[row].max() == parents[row]  # to the last bit


def test_it_chooses_what_arrives_first() -> None:
    source = random.Random(3)
    came: Counter[str] = Counter()
    for seed in range(SEARCHES):
        law = random_tree(source, source.choice([2, 3]), 4, zeros=0.25)
        came += follow(law, source.randint(1, 5), seed, keyed("GUMBEL", seed))
    print(f"{dict(came)}")
    assert came["wrong"] == came["unclear"] == 0
    assert came["dead"] > SEARCHES / 4


def test_ties_go_to_the_smaller_path() -> None:
    """Even laws and coarse noise: equal clocks below one parent, and equal parents."""
    even = tree_of(
        3,
        {(): [1] * 3}
        | {(a,): [1] * 3 for a in range(3)}
        | {(a, b): [1] * 3 for a in range(3) for b in range(3)},
    )
    came: Counter[str] = Counter()
    for seed in range(400):
        came += follow(even, 1 + seed % 5, seed, coarse(seed, grid=1.0))
    print(f"{dict(came)}")
    assert came["wrong"] == 0
    assert came["ties"] > 100
    assert came["unclear"] < came["levels"] / 20


def test_all_equal_noise_leaves_the_order_to_the_paths() -> None:
    even = tree_of(2, {(): [1, 1], (0,): [1, 1], (1,): [1, 1]})
    noise_of: NoiseOf = lambda _, tokens: Noise(np.zeros(tokens.shape))  # noqa: E731
    found = production.search("GUMBEL", even, 3, 0, noise_of)[-1]
    assert found.prefixes == ((0, 0), (0, 1), (1, 0))


def test_with_keyed_noise_it_draws_items_without_replacement() -> None:
    """By counts: what the streams and keys add to the rule is noise of the right law."""
    found = drawn(SAMPLED, 2, DRAWS)
    wanted: Law[tuple[Path, ...]] = without_replacement(SAMPLED.items(), 2)
    assert race_of(SAMPLED, 2) == wanted
    assert chi_square_p(found, wanted) > 1e-4
    assert chi_square_p(found, first(fresh_noise(SAMPLED, 2), 2)) < 1e-12


def test_a_wider_beam_begins_with_the_same_items() -> None:
    source = random.Random(12)
    for seed in range(100):
        law, noise_of = random_tree(source, 3, 3), keyed("GUMBEL", seed)
        found = [production.search("GUMBEL", law, width, seed, noise_of)[-1] for width in (1, 2, 5)]
        widest = found[-1].by_rank()
        for level in found:
            assert level.by_rank() == widest[: len(level.prefixes)]


def test_rank_values_weigh_a_sample_without_bias() -> None:
    """By the last one of four, the three before tell a mean over all items."""
    worth = {path: float(number) for number, path in enumerate(SAMPLED.items())}
    told = []
    for seed in range(3000):
        found = production.search("GUMBEL", SAMPLED, 4, seed, keyed("GUMBEL", seed))[-1]
        ranks = dict(zip(found.prefixes, found.ranks.tolist(), strict=True))
        scores = dict(zip(found.prefixes, found.scores.tolist(), strict=True))
        *used, last = found.by_rank()
        threshold = ranks[last]
        told.append(
            sum(
                worth[path]
                * math.exp(scores[path])
                / -math.expm1(-math.exp(scores[path] - threshold))
                for path in used
            )
        )
    wanted = sum(worth[path] * float(mass) for path, mass in SAMPLED.items().items())
    error = np.std(told) / len(told) ** 0.5
    print(f"{np.mean(told):.3f} +- {error:.3f}, exactly {wanted:.3f}")
    assert abs(np.mean(told) - wanted) < 4 * error
    assert error < wanted / 30
