"""Relaxed verification for given noise, one candidate after the other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tests.rules.laws import Path


@dataclass(frozen=True)
class Given:
    """Noise of each candidate."""

    acceptance: Mapping[Path, float]
    keeping: Mapping[Path, float]
    gumbels: Mapping[Path, float]


def relaxed_step(
    p: Mapping[Path, float],
    q: Mapping[Path, float] | None,
    drafted: Iterable[Path],
    width: int,
    given: Given,
) -> tuple[set[Path], bool, str]:
    """The next beams, whether the pass goes on, and what was done.

    Args:
        p: target's law over the children of its beams.
        q: the drafter's law over all it drew from; None = nothing was drawn.
        drafted: what it drew.
        width: W.
        given: the noise.
    """
    live = {path for path, mass in p.items() if mass > 0}
    if len(live) <= width:
        return live, True, "all"
    if q is None:
        return _draw({path: p[path] for path in live}, width, given), True, "plain"
    accepted = [
        path
        for path in sorted(drafted)
        if path in live and q.get(path, 0.0) > 0 and given.acceptance[path] * q[path] <= p[path]
    ]
    if len(accepted) >= width:
        kept = sorted(accepted, key=lambda path: (given.keeping[path], path))[:width]
        return set(kept), True, "accepted"
    missing = width - len(accepted)
    left = {path: p[path] for path in live if path not in accepted}
    excess = {path: mass - q.get(path, 0.0) for path, mass in left.items()}
    excess = {path: mass for path, mass in excess.items() if mass > 0}
    enough = len(excess) >= missing
    more = _draw(excess if enough else left, missing, given)
    return {*accepted, *more}, False, "repaired" if enough else "guarded"


def _draw(weights: Mapping[Path, float], count: int, given: Given) -> set[Path]:
    """Draws without replacement: the largest log weights plus Gumbel noise."""
    order = sorted(
        weights, key=lambda path: (-(math.log(weights[path]) + given.gumbels[path]), path)
    )
    return set(order[:count])
