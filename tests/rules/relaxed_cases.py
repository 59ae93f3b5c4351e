"""Random levels and keyed draws for the production rule of relaxed verification."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np

from specbeam.decoding import noise
from specbeam.decoding.rules import RULES, Chosen, Continuations, Drafted, Noise
from tests.rules.laws import Law, Path, normalised
from tests.rules.relaxed_steps import Given, relaxed_step


def joint(scores: np.ndarray) -> np.ndarray:
    """Logarithm of the joint law of all entries."""
    found: np.ndarray = scores - np.logaddexp.reduce(scores[scores > -np.inf])
    return found


class Case:
    """Children of some beams, a draft of some of them, and noise."""

    def __init__(self, seed: int) -> None:
        """Make it; some cases have ties, dead children, an equal draft law, or none."""
        rng = np.random.default_rng(seed)
        self.shape = (int(rng.integers(1, 4)), int(rng.integers(2, 6)))
        scores = rng.normal(-2, 1.5, self.shape)
        if seed % 5 == 0:
            scores = np.round(scores)
        scores[rng.random(self.shape) < 0.25] = -np.inf
        scores[0, 0] = -1.0
        self.scores = scores
        self.width = int(rng.integers(1, 5))
        self.noise = Noise(
            rng.gumbel(size=self.shape), rng.random(self.shape), rng.random(self.shape)
        )
        self.drafted = None if seed % 7 == 0 else self._draft(rng, equal=seed % 3 == 0)

    def _draft(self, rng: np.random.Generator, equal: bool) -> Drafted:
        """A law over these continuations and, mostly, others, and some of what it can draw."""
        law = joint(self.scores)
        if not equal:
            law = rng.normal(-2, 1.5, self.shape)
            law[rng.random(self.shape) < 0.15] = -np.inf
            law[0, -1] = -1.0
            law = joint(law) + np.log1p(-0.5 * rng.random())  # some mass is elsewhere
        return Drafted(law, rng.random(self.shape) < rng.choice([0.3, 0.7]))

    def by_path(self, values: np.ndarray) -> dict[Path, float]:
        """An array by continuation."""
        return {(r, c): float(values[r, c]) for r, c in np.ndindex(self.shape)}

    def expected(self) -> tuple[set[Path], bool, str]:
        """What the slow rule says."""
        assert self.noise.acceptance is not None and self.noise.keeping is not None
        assert self.noise.gumbels is not None
        given = Given(
            *map(self.by_path, (self.noise.acceptance, self.noise.keeping, self.noise.gumbels))
        )
        p = self.by_path(np.exp(joint(self.scores)))
        if self.drafted is None:
            return relaxed_step(p, None, (), self.width, given)
        q = self.by_path(np.exp(self.drafted.logprobs))
        drafted = [(int(r), int(c)) for r, c in np.argwhere(self.drafted.proposed)]
        return relaxed_step(p, q, drafted, self.width, given)

    def chosen(self) -> Chosen:
        """What the production rule says."""
        continuations = Continuations(
            self.scores, np.zeros(self.shape[0]), self.width, self.drafted
        )
        return RULES["RELAXED"].choose(continuations, self.noise)

    def differs(self) -> bool:
        """Whether the two choose otherwise, or go on otherwise."""
        kept, go_on, _ = self.expected()
        chosen = self.chosen()
        found = [divmod(int(place), self.shape[1]) for place in chosen.positions]
        return found != sorted(kept) or chosen.go_on != go_on


TARGET: Law[int] = normalised({n: Fraction(weight) for n, weight in enumerate((6, 5, 3, 2, 1, 0))})


def drawn(q: Law[int], draft_width: int, width: int, draws: int) -> Counter[frozenset[int]]:
    """Beams below a root for many seeds, everything keyed as in a search."""
    tokens = np.arange(len(TARGET))[None]
    with np.errstate(divide="ignore"):
        scores, law = (np.log([[float(mass) for mass in one.values()]]) for one in (TARGET, q))
    found: Counter[frozenset[int]] = Counter()
    for seed in range(draws):
        keys = noise.child_keys(noise.prefix_keys(seed, np.zeros((1, 0), np.int64)), tokens)
        wanted = np.argsort(-(law + noise.gumbels(keys, "draft"))[0])[:draft_width]
        proposed = np.isin(tokens, wanted) & (law > -np.inf)
        chosen = RULES["RELAXED"].choose(
            Continuations(scores, np.zeros(1), width, Drafted(law, proposed)),
            RULES["RELAXED"].noise(keys),
        )
        found[frozenset(chosen.positions.tolist())] += 1
    return found
