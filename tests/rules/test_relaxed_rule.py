"""The production rule for relaxed verification does what the enumeration describes."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from tests.rules.chi_square import chi_square_p
from tests.rules.laws import sets_without_replacement
from tests.rules.relaxed_cases import TARGET, Case, drawn
from tests.rules.relaxed_laws import level_law
from tests.rules.report import at_distance

CASES = 2000
DRAWS = 5000


def test_it_agrees_with_the_slow_rule() -> None:
    came: Counter[str] = Counter()
    for seed in range(CASES):
        case = Case(seed)
        assert not case.differs(), seed
        chosen = case.chosen()
        np.testing.assert_array_equal(chosen.scores, case.scores.ravel()[chosen.positions])
        np.testing.assert_array_equal(chosen.ranks, chosen.scores)
        came[case.expected()[2]] += 1
    print(f"{dict(came)}")
    assert min(came[how] for how in ("all", "plain", "accepted", "repaired", "guarded")) > 40


@pytest.mark.parametrize(("draft_width", "width"), [(1, 1), (3, 2)])
def test_with_keyed_noise_its_law_is_the_enumerated_one(draft_width: int, width: int) -> None:
    """Streams that shared their numbers would be told here."""
    q = at_distance(TARGET, Fraction(1, 4))
    found, law = drawn(q, draft_width, width, DRAWS), level_law(TARGET, q, draft_width, width)
    assert chi_square_p(found, law) > 1e-4
    sampling = sets_without_replacement(TARGET, width)
    if width == 1:
        assert law == sampling
    else:
        assert chi_square_p(found, sampling) < 1e-12
