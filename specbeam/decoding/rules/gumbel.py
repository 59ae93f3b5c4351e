"""Stochastic beam search: whole items without replacement, exactly."""

from __future__ import annotations

from specbeam.decoding.noise import conditional_ranks
from specbeam.decoding.rules.choice import Chosen, Continuations, Noise, best


def gumbel(continuations: Continuations, noise: Noise) -> Chosen:
    """Return the best W by score plus noise that is conditioned on the parent's.

    Args:
        continuations: of the exact beams, whose scores must be sums of normalised log-probabilities
            (TRIE).
        noise: its Gumbel noise.

    Source: stochastic beam search (arXiv 1903.06059), algorithm 1.
    """
    assert noise.gumbels is not None
    scores = continuations.scores
    ranks = conditional_ranks(continuations.parent_ranks, scores, noise.gumbels).ravel()
    positions = best(ranks, continuations.width)
    return Chosen(positions, scores.ravel()[positions], ranks[positions])
