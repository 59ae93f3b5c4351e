"""Every wrong rule is noticed by the check named for it, and no right one is."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.rules.checks import CHECKS
from tests.rules.mutants import MUTANTS, Mutant


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_production_rules_pass(check: Callable[[], float]) -> None:
    assert check() == 0


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_wrong_rule_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    found = mutant.measure(monkeypatch)
    print(f"{mutant.name}: {found:.3f} by the {mutant.caught_by}")
    assert found > mutant.floor
