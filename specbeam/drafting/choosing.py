"""The tree that is expected to save most time.

For every level below the exact beams the candidates are ordered by their chance to be among the
target's W best.  A tree is a number of candidates for each level; its expected time is

    pass(rows) + sum over levels of P(first miss there) * time to go on from there,

P from `coverage`, times from the engine's cost table.  A grid over the numbers is searched: whole
on up to three levels, which takes a fraction of a millisecond, level by level on more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.drafting.coverage import CoverageModel, LevelCoverage
from specbeam.drafting.walk import WalkedLevel

# Sizes tried for each level, as far as there are so many candidates.
_STEPS = [*range(13), 15, 18, 22, 27, 33, 40, 50, 64, 80, 100, 128, 160, 200, 256, 360, 512, 1024]
_SIZES = np.array(_STEPS)
# Up to so many trees are all compared; beyond, so often each level is gone over again.
_MOST_TREES, _SWEEPS = 25_000, 4
# A tree must be expected to be so much quicker than going on without one: estimates are noisy.
_WORTHWHILE = 0.98


@dataclass(frozen=True, slots=True)
class PassPrices:
    """What time costs at one moment of one search.

    Attributes:
        tree_ms: milliseconds of the next pass by rows, the beams' own included; vectorised.
        plain_ms: milliseconds to the end from exact beams of each level, without trees.  Shape
            (L + 1,); the last is 0.
        own_rows: rows that the pass has whatever the tree: beams without one.
    """

    tree_ms: Callable[[np.ndarray], np.ndarray]
    plain_ms: np.ndarray
    own_rows: int


@dataclass(frozen=True, slots=True)
class TreeEstimate:
    """What is expected of a tree.

    Attributes:
        ms: to the end of the search with it.
        plain_ms: to the end without any.
        coverage: of each of its levels, given that of the level above.
    """

    ms: float
    plain_ms: float
    coverage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LevelChances:
    """Candidates of one level that cost rows, best chance first.

    Attributes:
        order: their places among all candidates.  Shape (n,).
        rows: rows of the first i of them.  Shape (n + 1,).
        masses: chances left out with the first i of them.  Shape (n + 1,).
        known: what is known of the level.
    """

    order: np.ndarray
    rows: np.ndarray
    masses: np.ndarray
    known: LevelCoverage


@dataclass(frozen=True, slots=True)
class ChosenTree:
    """A choice.

    Attributes:
        masks: chosen candidates of each level; free ones are always in.
        estimate: what is expected of it.
        worthwhile: whether it is expected to be quicker than going on without a tree.
    """

    masks: list[np.ndarray]
    estimate: TreeEstimate
    worthwhile: bool


def level_chances(
    base_level: int,
    levels: Sequence[WalkedLevel],
    costs: Sequence[np.ndarray],
    coverage: CoverageModel,
) -> list[LevelChances]:
    """Order the candidates of every level by their chances.

    Args:
        base_level: level of the exact beams.
        levels: the candidates.
        costs: rows of each; 0 = free, or in place already.
        coverage: what is known of such searches.
    """
    found = []
    above: np.ndarray | None = None
    for number, (level, cost) in enumerate(zip(levels, costs, strict=True), base_level + 1):
        known = coverage.at(base_level, number)
        chances = known.chances(level.sources, level.reserved, level.excess)
        if above is not None:
            chances = np.minimum(chances, above[level.parents])
        above = chances
        paid = np.flatnonzero(cost)
        order = paid[np.argsort(-chances[paid], kind="stable")]
        rows = np.concatenate([[0], np.cumsum(cost[order])])
        left = np.cumsum(chances[order][::-1])[::-1]
        found.append(LevelChances(order, rows, np.append(left, 0.0), known))
    return found


def choose_tree(
    base_level: int,
    levels: Sequence[WalkedLevel],
    chances: Sequence[LevelChances],
    max_rows: int,
    prices: PassPrices,
    *,
    some: bool = False,
) -> ChosenTree:
    """Return the tree with the least expected time.

    Args:
        base_level: level of the exact beams.
        levels: the candidates.
        chances: of these, from `level_chances`.
        max_rows: row budget of the pass, the beams' own rows included.
        prices: what time costs.
        some: nodes of the first level are wanted, whatever is expected of them.
    """
    counts = [_sizes(part, max_rows) for part in chances]
    covered = [
        part.known.covered(part.masses[count]) for part, count in zip(chances, counts, strict=True)
    ]
    # Free levels are covered whatever is chosen; elsewhere nothing covers nothing.
    for share, part in zip(covered, chances, strict=True):
        share[0] = 1.0 if not len(part.order) else 0.0
    grid = _Grid(
        base_level,
        prices,
        max_rows,
        [part.rows[count] for part, count in zip(chances, counts, strict=True)],
        covered,
        first=1 if some and len(counts[0]) > 1 else 0,
    )
    best, least = grid.best()
    plain_ms = float(prices.plain_ms[base_level])
    masks = [
        _mask(len(level), part, int(count[i]))
        for level, part, count, i in zip(levels, chances, counts, best, strict=True)
    ]
    shares = tuple(float(share[i]) for share, i in zip(covered, best, strict=True))
    return ChosenTree(
        masks, TreeEstimate(least, plain_ms, shares), worthwhile=least < _WORTHWHILE * plain_ms
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """Trees by the number of the size tried on each of d levels.

    Attributes:
        base_level: level of the exact beams.
        prices: what time costs.
        max_rows: row budget of the pass.
        rows: rows of each size, by level.
        covered: chance that each size covers its level, by level.
        first: smallest number of a size on the first level.
    """

    base_level: int
    prices: PassPrices
    max_rows: int
    rows: Sequence[np.ndarray]
    covered: Sequence[np.ndarray]
    first: int

    def best(self) -> tuple[np.ndarray, float]:
        """Return the numbers of the best tree's sizes, shape (d,), and its expected time.

        All trees of few levels are compared.  On more levels the best of a line of trees, each size
        on every level down to every depth, is improved level by level until nothing changes.
        """
        shape = [len(sizes) for sizes in self.rows]
        if np.prod(np.array(shape, float)) <= _MOST_TREES:
            return self._least(np.indices(shape).reshape(len(shape), -1).T)
        best, least = self._least(self._line(shape))
        for _ in range(_SWEEPS):
            before = least
            for level, sizes in enumerate(shape):
                tried = np.repeat(best[None], sizes, axis=0)
                tried[:, level] = np.arange(sizes)
                best, least = self._least(tried)
            if least == before:
                break
        return best, least

    def _line(self, shape: Sequence[int]) -> np.ndarray:
        """The same size on all levels down to some depth.  Shape (n, d)."""
        largest = np.array(shape) - 1
        sizes = np.arange(int(largest.max()) + 1)
        depths = np.arange(1, len(shape) + 1)
        deep = np.arange(len(shape)) < depths[:, None, None]
        line = np.where(deep, np.minimum(sizes[None, :, None], largest), 0)
        return line.reshape(-1, len(shape))

    def _least(self, numbers: np.ndarray) -> tuple[np.ndarray, float]:
        """The best of some trees, shape (n, d); the first one of equals."""
        ms = self._ms(numbers)
        at = int(np.argmin(ms))
        return numbers[at], float(ms[at])

    def _ms(self, numbers: np.ndarray) -> np.ndarray:
        """Expected time with each of n trees.  Shape (n,).

        The pass itself settles one level; each level covered below settles one more.
        """
        plain_ms, base = self.prices.plain_ms, self.base_level
        rows = np.full(len(numbers), self.prices.own_rows)
        reached, rest = np.ones(len(numbers)), np.zeros(len(numbers))
        for level, (of_sizes, share) in enumerate(zip(self.rows, self.covered, strict=True)):
            number = numbers[:, level]
            rows = rows + of_sizes[number]
            here = share[number]
            rest += reached * (1 - here) * plain_ms[base + 1 + level]
            reached = reached * here
        rest += reached * plain_ms[base + 1 + len(self.rows)]
        ms: np.ndarray = self.prices.tree_ms(rows) + rest
        ms[(rows > self.max_rows) | (numbers[:, 0] < self.first)] = np.inf
        return ms


def _sizes(part: LevelChances, max_rows: int) -> np.ndarray:
    """Return the numbers of candidates that are tried for one level, ascending from 0."""
    most = int(np.searchsorted(part.rows, max_rows, side="right")) - 1
    sizes = _SIZES[: int(np.searchsorted(_SIZES, most))]
    return np.append(sizes, most)


def _mask(size: int, part: LevelChances, count: int) -> np.ndarray:
    mask = np.ones(size, bool)
    mask[part.order[count:]] = False
    return mask


def just_covered(part: LevelChances, best: np.ndarray, outside: int) -> float | None:
    """Return the mass left out when exactly enough candidates are taken to cover a level.

    Args:
        part: the level's candidates.
        best: which candidates are among the target's best.  Shape (n,), over all candidates.
        outside: how many of the target's best are no candidates.

    Returns:
        The mass; None when no number of candidates covers it.
    """
    if outside:
        return None
    needed = np.flatnonzero(best[part.order])
    return float(part.masses[needed[-1] + 1 if len(needed) else 0])
