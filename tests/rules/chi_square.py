"""Counts against exact laws."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from fractions import Fraction
from typing import TypeVar

from scipy.special import chdtrc

Outcome = TypeVar("Outcome", bound=Hashable)
# Outcomes that are expected less often are counted together.
MIN_EXPECTED = 20


def chi_square_p(counts: Mapping[Outcome, int], law: Mapping[Outcome, Fraction]) -> float:
    """Chance of counts as far from a law as these, if they were drawn from it.

    0 where something was counted that the law excludes.
    """
    draws = sum(counts.values())
    if any(not law.get(outcome) for outcome in counts):
        return 0.0
    cells = sorted(
        (float(mass) * draws, counts.get(outcome, 0)) for outcome, mass in law.items() if mass
    )
    expected, observed = [0.0], [0.0]
    for wanted, seen in cells:  # the rarest first: they make the first cell
        if expected[-1] >= MIN_EXPECTED:
            expected.append(0.0)
            observed.append(0.0)
        expected[-1] += wanted
        observed[-1] += seen
    distance = sum((n - wanted) ** 2 / wanted for n, wanted in zip(observed, expected, strict=True))
    return float(chdtrc(len(expected) - 1, distance))
