"""What a selection rule sees, and what it answers.  numpy only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specbeam.decoding.noise import gumbels, uniforms


@dataclass(frozen=True, slots=True)
class Drafted:
    """What a drafter drew on one level, as far as it continues the present beams.

    Attributes:
        logprobs: the drafter's law over all continuations it drew from, of the present beams or
            not; -inf where it draws nothing.  Shape (n, C).
        proposed: which continuations it drew.  Shape (n, C), bool.
    """

    logprobs: np.ndarray
    proposed: np.ndarray


@dataclass(frozen=True, slots=True)
class Continuations:
    """Every way to go on from the beams of one level.

    Attributes:
        scores: cumulative log-probabilities of the children of each beam, in node order; -inf for
            dead ones.  Shape (n, C), float64.
        parent_ranks: rank of each beam.  Shape (n,), float64.
        width: W, most continuations chosen.
        drafted: what was drafted with the law it was drawn from; None = nothing, or no law.
    """

    scores: np.ndarray
    parent_ranks: np.ndarray
    width: int
    drafted: Drafted | None = None


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise of one level; a rule reads what it needs.

    Attributes:
        gumbels: standard Gumbel noise.  Shape (n, C).
        acceptance: uniform over (0, 1), for accepting drafts.  Shape (n, C).
        keeping: the same, for choosing among the accepted.  Shape (n, C).
    """

    gumbels: np.ndarray | None = None
    acceptance: np.ndarray | None = None
    keeping: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The next beams.

    Attributes:
        positions: of the chosen continuations in the flattened (n, C) array, ascending, which is
            ascending node order.  Shape (m,), m <= W, int64.
        scores: their cumulative log-probabilities.  Shape (m,).
        ranks: the values they are ordered by.  Shape (m,).
        go_on: whether the level below may be decided from the same pass.
    """

    positions: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    go_on: bool = True


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule and the streams of its noise (see `noise.STREAMS`); None = it reads no such noise.

    Attributes:
        choose: the rule.
        gumbels: stream of the Gumbel noise.
        acceptance: stream of what accepts drafts.
        keeping: stream of what chooses among accepted drafts.
    """

    choose: Callable[[Continuations, Noise], Chosen]
    gumbels: str | None = None
    acceptance: str | None = None
    keeping: str | None = None

    def noise(self, keys: np.ndarray) -> Noise:
        """Return the noise of continuations.

        Args:
            keys: of their prefixes.  Shape (n, C), uint64.
        """
        return Noise(
            None if self.gumbels is None else gumbels(keys, self.gumbels),
            None if self.acceptance is None else uniforms(keys, self.acceptance),
            None if self.keeping is None else uniforms(keys, self.keeping),
        )


def best(values: np.ndarray, count: int) -> np.ndarray:
    """Return the ascending positions of the `count` best live values, ties to the smaller position.

    Args:
        values: -inf for dead ones.  Shape (n,).
        count: most positions returned.
    """
    live = np.flatnonzero(values > -np.inf)
    if len(live) <= count:
        return live
    among = values[live]
    # Dead values may be most; of the others all but a few go without a sort.
    threshold = np.partition(among, len(among) - count)[len(among) - count]
    chosen: np.ndarray = live[among >= threshold]
    if len(chosen) == count:
        return chosen
    return np.sort(chosen[np.argsort(-values[chosen], kind="stable")[:count]])
