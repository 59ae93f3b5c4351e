"""The race of `races` for given noise: which prefixes arrive first, in exact arithmetic.

Noise comes as floating-point Gumbel values.  A child's own clock would ring at
exp(-(score + noise)); below a parent that arrived at T all clocks are moved by the same amount, so
that the first one rings at T.  Times are rationals, so nothing is lost by adding and comparing.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from tests.rules.laws import Path
from tests.rules.production import Children


def child_times(parent_time: Fraction, free: np.ndarray) -> list[Fraction | None]:
    """Arrival times of a node's children; None for the dead.

    Args:
        parent_time: when the node itself arrived.
        free: score plus noise of each child, -inf for dead ones.  Shape (C,).
    """
    clocks = [None if value == -math.inf else Fraction(math.exp(-value)) for value in free.tolist()]
    live = [clock for clock in clocks if clock is not None]
    return [None if clock is None else parent_time + clock - min(live) for clock in clocks]


def next_times(
    times: dict[Path, Fraction], children: Children, gumbels: np.ndarray, width: int
) -> tuple[dict[Path, Fraction], float]:
    """The W earliest children of all beams, ties to the smaller path.

    Args:
        times: when each beam arrived.
        children: of the same beams.
        gumbels: noise of each child.  Shape (W', C).
        width: W.

    Returns:
        Times of the W earliest by path; and the relative gap between the last of them and the next,
        infinite where there is none, 0 for a tie.
    """
    found: dict[Path, Fraction] = {}
    for row, path in enumerate(children.paths.tolist()):
        free = children.scores[row] + gumbels[row]
        for token, time in zip(children.tokens[row], child_times(times[*path], free), strict=True):
            if time is not None:
                found[*path, int(token)] = time
    order = sorted(found, key=lambda path: (found[path], path))
    gap = math.inf
    if len(order) > width:
        last, next_one = found[order[width - 1]], found[order[width]]
        gap = float((next_one - last) / max(last, Fraction(1, 10**300)))
    return {path: found[path] for path in order[:width]}, gap
