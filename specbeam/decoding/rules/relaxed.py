"""AtSpeed's relaxed sampling verification: approximate, and labelled so wherever it is offered."""

from __future__ import annotations

import numpy as np

from specbeam.decoding.rules.choice import Chosen, Continuations, Drafted, Noise, best

# Laws closer than this are equal: a drafter tells its own in fp32.
ROUNDING = 1e-6


def relaxed(continuations: Continuations, noise: Noise) -> Chosen:
    """Accept drafted continuations by the ratio of the two laws; draw what is missing.

    P is the target's law over all continuations of the beams, Q the drafter's over all it drew
    from.  Each drafted continuation is accepted if its uniform number is at most P / Q.  Of more
    than W accepted ones W stay, chosen uniformly.  Fewer are filled up with draws without
    replacement from the positive part of P - Q, or from P where that leaves too few; then the pass
    is over.  Without a law all W are drawn from P without replacement (beam sampling).

    Args:
        continuations: of the beams.
        noise: all of it.

    Source: AtSpeed (arXiv 2410.05165), relaxed sampling verification; the fallback is our own.
    """
    scores, width = continuations.scores.ravel(), continuations.width
    live = np.flatnonzero(scores > -np.inf)
    if len(live) <= width:
        return _chosen(scores, live)
    assert noise.gumbels is not None
    gumbels, drafted = noise.gumbels.ravel(), continuations.drafted
    if drafted is None:
        return _chosen(scores, best(scores + gumbels, width))
    target = scores - np.logaddexp.reduce(scores[live])
    accepted = _accepted(target, drafted, noise)
    if len(accepted) >= width:
        assert noise.keeping is not None
        order = np.argsort(noise.keeping.ravel()[accepted], kind="stable")
        return _chosen(scores, np.sort(accepted[order[:width]]))
    missing = width - len(accepted)
    left = _residual(target, drafted.logprobs.ravel(), accepted, missing)
    drawn = best(left + gumbels, missing)
    return _chosen(scores, np.sort(np.concatenate([accepted, drawn])), go_on=False)


def _accepted(target: np.ndarray, drafted: Drafted, noise: Noise) -> np.ndarray:
    """Ascending positions of accepted drafts; what has no chance under Q was not drawn from it."""
    assert noise.acceptance is not None
    law = drafted.logprobs.ravel()
    tested = np.flatnonzero(drafted.proposed.ravel() & (law > -np.inf) & (target > -np.inf))
    passed = np.log(noise.acceptance.ravel()[tested]) <= target[tested] - law[tested]
    accepted: np.ndarray = tested[passed]
    return accepted


def _residual(
    target: np.ndarray, law: np.ndarray, accepted: np.ndarray, missing: int
) -> np.ndarray:
    """Logarithm of what is left to draw from, not normalised, -inf for what is accepted."""
    # Only where the target's law is larger is the difference read; elsewhere it may be none.
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        difference = target + np.log(-np.expm1(law - target))
        rest: np.ndarray = np.where(target - law > ROUNDING, difference, -np.inf)
    rest[accepted] = -np.inf
    if np.count_nonzero(rest > -np.inf) < missing:
        rest = target.copy()
        rest[accepted] = -np.inf
    return rest


def _chosen(scores: np.ndarray, positions: np.ndarray, *, go_on: bool = True) -> Chosen:
    return Chosen(positions, scores[positions], scores[positions], go_on)
