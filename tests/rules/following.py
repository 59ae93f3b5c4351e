"""The production rule for stochastic beam search beside the race, on the same noise."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import numpy as np

from specbeam.decoding.rules import Noise
from tests.rules import production
from tests.rules.laws import Path, TreeLaw
from tests.rules.production import NoiseOf, keyed
from tests.rules.race_steps import next_times


def coarse(seed: int, grid: float) -> NoiseOf:
    """Noise rounded to a grid, so that clocks tie."""
    exact = keyed("GUMBEL", seed)

    def noise_of(paths: np.ndarray, tokens: np.ndarray) -> Noise:
        gumbels = exact(paths, tokens).gumbels
        assert gumbels is not None
        return Noise(np.round(gumbels / grid) * grid)

    return noise_of


def follow(law: TreeLaw, width: int, seed: int, noise_of: NoiseOf) -> Counter[str]:
    """Run both level by level on the same noise; what came up, by kind.

    Cuts that no floating-point number could tell are counted and end the search.
    """
    came: Counter[str] = Counter()
    beams = production.root(seed)
    times: dict[Path, Fraction] = {(): Fraction(math.exp(-beams.ranks[0]))}
    for _ in range(law.depth):
        children = production.children_of(law, beams)
        gumbels = noise_of(children.paths, children.tokens).gumbels
        assert gumbels is not None
        times, gap = next_times(times, children, gumbels, width)
        beams, _ = production.step("GUMBEL", law, beams, width, noise_of)
        if 0 < gap < 1e-11:
            came["unclear"] += 1
            break
        if set(beams.prefixes) != set(times):
            came["wrong"] += 1
            break
        wanted = np.array([-math.log(times[prefix]) for prefix in beams.prefixes])
        came["wrong"] += not np.allclose(beams.ranks, wanted, rtol=0, atol=1e-9)
        came["levels"] += 1
        came["ties"] += gap == 0
        came["dead"] += bool(np.isneginf(children.scores[children.tokens >= 0]).any())
    return came


def drawn(law: TreeLaw, width: int, draws: int) -> Counter[tuple[Path, ...]]:
    """Answers of that many seeds, in order of rank."""
    return Counter(
        production.search("GUMBEL", law, width, seed, keyed("GUMBEL", seed))[-1].by_rank()
        for seed in range(draws)
    )
