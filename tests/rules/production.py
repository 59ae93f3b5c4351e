"""The production rules over toy laws: arrays from trees, prefixes from positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specbeam.decoding import noise
from specbeam.decoding.rules import RULES, Chosen, Continuations, Drafted, Noise
from tests.rules.laws import Path, TreeLaw

NoiseOf = Callable[[np.ndarray, np.ndarray], Noise]
"""Noise of the children (tokens (n, C)) of prefixes (paths (n, level))."""


@dataclass(frozen=True)
class Level:
    """Beams of one level in ascending order of their paths.

    Attributes:
        prefixes: W' paths.
        scores: cumulative log-probabilities.  Shape (W',).
        ranks: what they are ordered by.  Shape (W',).
    """

    prefixes: tuple[Path, ...]
    scores: np.ndarray
    ranks: np.ndarray

    def by_rank(self) -> tuple[Path, ...]:
        """Paths, best first, ties to the smaller path."""
        return tuple(self.prefixes[place] for place in np.argsort(-self.ranks, kind="stable"))


@dataclass(frozen=True)
class Children:
    """Continuations of beams as the rules see them.

    Attributes:
        paths: of the beams.  Shape (W', level), int64.
        tokens: of their children, padded with -1.  Shape (W', C), int64.
        scores: cumulative log-probabilities, -inf for dead children and padding.  Shape (W', C).
    """

    paths: np.ndarray
    tokens: np.ndarray
    scores: np.ndarray

    def path(self, position: int) -> Path:
        """Path of a continuation, by its position in the flattened array."""
        row, column = divmod(int(position), self.tokens.shape[1])
        return (*self.paths[row].tolist(), int(self.tokens[row, column]))


def root(seed: int) -> Level:
    """The empty prefix, ranked by its own noise."""
    key = noise.prefix_keys(seed, np.zeros((1, 0), np.int64))
    return Level(((),), np.zeros(1), noise.gumbels(key))


def children_of(law: TreeLaw, beams: Level) -> Children:
    """Children of beams, a row each."""
    rows = [law.children[prefix] for prefix in beams.prefixes]
    shape = (len(rows), max(map(len, rows)))
    tokens, steps = np.full(shape, -1, np.int64), np.full(shape, -np.inf)
    with np.errstate(divide="ignore"):
        for number, row in enumerate(rows):
            tokens[number, : len(row)] = list(row)
            steps[number, : len(row)] = np.log([float(mass) for mass in row.values()])
    paths = np.array(beams.prefixes, np.int64).reshape(len(rows), -1)
    return Children(paths, tokens, beams.scores[:, None] + steps)


def keyed(rule: str, seed: int) -> NoiseOf:
    """Noise as it is made in a search: by seed and prefix."""

    def noise_of(paths: np.ndarray, tokens: np.ndarray) -> Noise:
        return RULES[rule].noise(noise.child_keys(noise.prefix_keys(seed, paths), tokens))

    return noise_of


def step(
    rule: str,
    law: TreeLaw,
    beams: Level,
    width: int,
    noise_of: NoiseOf,
    drafted: Callable[[Children], Drafted | None] = lambda _: None,
) -> tuple[Level, Chosen]:
    """Choose the next beams.

    Args:
        rule: a name of `RULES`.
        law: of the target.
        beams: of the level above.
        width: W.
        noise_of: see `NoiseOf`.
        drafted: what a drafter says about the continuations.
    """
    found = children_of(law, beams)
    continuations = Continuations(found.scores, beams.ranks, width, drafted(found))
    chosen = RULES[rule].choose(continuations, noise_of(found.paths, found.tokens))
    prefixes = tuple(found.path(position) for position in chosen.positions)
    return Level(prefixes, chosen.scores, chosen.ranks), chosen


def search(rule: str, law: TreeLaw, width: int, seed: int, noise_of: NoiseOf) -> list[Level]:
    """Beams of every level from the root on, nothing drafted."""
    levels = [root(seed)]
    for _ in range(law.depth):
        if not levels[-1].prefixes:
            break
        levels.append(step(rule, law, levels[-1], width, noise_of)[0])
    return levels
