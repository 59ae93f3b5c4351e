"""Beam search: the continuations with the largest scores."""

from __future__ import annotations

from specbeam.decoding.rules.choice import Chosen, Continuations, Noise, best


def top_k(continuations: Continuations, noise: Noise) -> Chosen:
    """Return the best W by score.

    The expansions choose by this rule with shortcuts of their own; this is what they must equal.

    Args:
        continuations: of the exact beams.
        noise: not read.

    Source: AtSpeed (arXiv 2410.05165), strict verification, algorithm 1.
    """
    scores = continuations.scores.ravel()
    positions = best(scores, continuations.width)
    return Chosen(positions, scores[positions], scores[positions])
