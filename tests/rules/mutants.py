"""Wrong ways to draw items, each with the check that notices it.

Mistakes in the law are enumerated, so what is measured is a total variation distance.  Mistakes in
the code are put into the production rules, and what is measured is the check's own number.  More of
the code's mistakes, as changes of a line, are in `tests.exactness.sampling_mutations`; they take
minutes each.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from specbeam.decoding import noise
from specbeam.decoding.beams import Beams
from specbeam.decoding.rules import RULES, Chosen, Continuations, Noise, Rule
from tests.rules import checks
from tests.rules.laws import (
    Law,
    Path,
    TreeLaw,
    filtered,
    tempered,
    total_variation,
    tree_of,
    without_replacement,
)
from tests.rules.races import first, fresh_noise
from tests.rules.wrong_races import (
    from_drafts_only,
    redrawn,
    tempered_afterwards,
    tempered_in_part,
    unnormalised_top_k,
    without_heirs,
)

Measure = Callable[[pytest.MonkeyPatch], float]
TOY = tree_of(2, {(): [5, 3, 2], (0,): [1, 1, 2], (1,): [1, 4], (2,): [3, 1]})
DRAFTED = ((0,), (1,))


@dataclass(frozen=True)
class Mutant:
    """A wrong rule.

    Attributes:
        name: what it is called.
        does: what it does.
        caught_by: what notices it.
        measure: how far it is off, in the check's own measure; 0 would be right.
        floor: less than it is known to be off.
    """

    name: str
    does: str
    caught_by: str
    measure: Measure
    floor: float = 0.0


def _enumerated(found: Law[tuple[Path, ...]], law: TreeLaw = TOY) -> Measure:
    """Distance of a law of two items, in order, from draws without replacement."""
    wanted = without_replacement(law.items(), 2)
    return lambda _: float(total_variation(first(found, 2), wanted))


def _broken(change: Callable[[pytest.MonkeyPatch], None], check: Callable[[], float]) -> Measure:
    """What a check says while the production code is changed."""

    def measure(patch: pytest.MonkeyPatch) -> float:
        change(patch)
        return check()

    return measure


def _replace(module: str, name: str, new: object) -> Callable[[pytest.MonkeyPatch], None]:
    # Rules are functions with the names of their modules, so modules are looked up here.
    return lambda patch: patch.setattr(sys.modules[f"specbeam.decoding.{module}"], name, new)


def _rule(name: str, rule: Rule) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setitem(RULES, name, rule)


# ---------------------------------------------------------------- pieces of wrong code


def _keys_by_row(seed: int, paths: np.ndarray) -> np.ndarray:
    rows = np.arange(len(paths))[:, None]
    keys: np.ndarray = noise.child_keys(np.full(len(paths), seed, np.uint64), rows).ravel()
    return keys


_child_keys = noise.child_keys


def _keys_by_token(keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    none: np.ndarray = np.zeros_like(keys)
    return _child_keys(none, tokens)


def _best_last(values: np.ndarray, count: int) -> np.ndarray:
    """Ties to the larger position."""
    order = np.lexsort((-np.arange(len(values)), -values))[:count]
    found: np.ndarray = np.sort(order[values[order] > -np.inf])
    return found


def _unconditioned(ranks: np.ndarray, scores: np.ndarray, gumbels: np.ndarray) -> np.ndarray:
    free: np.ndarray = scores + gumbels
    return free


def _accumulated(ranks: np.ndarray, scores: np.ndarray, gumbels: np.ndarray) -> np.ndarray:
    """All children moved by one amount, so that the largest fits."""
    free = scores + gumbels
    found: np.ndarray = free + (ranks - free.max(axis=1))[:, None]
    found[scores == -np.inf] = -np.inf
    return found


def _rootless(cls: type[Beams], selection: object = None) -> Beams:
    return cls(0, np.zeros(1, np.int64), np.zeros(1), np.zeros(1))


_relaxed = RULES["RELAXED"].choose


def _kept_by_acceptance(continuations: Continuations, given: Noise) -> Chosen:
    return _relaxed(continuations, Noise(given.gumbels, given.acceptance, given.acceptance))


def _never_stopped(continuations: Continuations, given: Noise) -> Chosen:
    chosen = _relaxed(continuations, given)
    return Chosen(chosen.positions, chosen.scores, chosen.ranks)


def _residual_of_all(
    target: np.ndarray, law: np.ndarray, accepted: np.ndarray, missing: int
) -> np.ndarray:
    """Whatever was accepted may be drawn again."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        left = target + np.log(-np.expm1(law - target))
    found: np.ndarray = np.where(law < target, left, -np.inf)
    return found


MUTANTS = (
    # ---- enumerated
    Mutant(
        "fresh noise on every level",
        "perturbs cumulative scores with new noise instead of conditioning it on the parent's",
        "law of the items",
        _enumerated(fresh_noise(TOY, 2)),
        0.1,
    ),
    Mutant(
        "M1: a repaired level is drawn again",
        "draws new noise where a winner was not drafted",
        "law of the items",
        _enumerated(redrawn(TOY, 2, DRAFTED)),
        0.1,
    ),
    Mutant(
        "M6: winners from drafts only",
        "takes the best of what was drafted for the sample",
        "law of the items",
        _enumerated(from_drafts_only(TOY, 2, DRAFTED)),
        0.1,
    ),
    Mutant(
        "M4: top-k without renormalisation",
        "leaves children out, but not their mass",
        "law of the items",
        _enumerated(unnormalised_top_k(TOY, 2, 2), filtered(TOY, 2)),
        0.01,
    ),
    Mutant(
        "M5: temperature after accumulation",
        "divides cumulative scores by the temperature",
        "law of the items",
        _enumerated(tempered_afterwards(TOY, 2, 2), tempered(TOY, 2)),
        0.1,
    ),
    Mutant(
        "M7: temperature on plain steps only",
        "scores the rows of drafted prefixes without it",
        "law of the items",
        _enumerated(tempered_in_part(TOY, tempered(TOY, 3), 2, DRAFTED), tempered(TOY, 3)),
        0.1,
    ),
    Mutant(
        "children free of their parent's rank",
        "starts children at the parent's time, none of them with it",
        "law of the items",
        _enumerated(without_heirs(TOY, 2)),
        0.05,
    ),
    # ---- put into the production code
    Mutant(
        "M2: noise keyed by the row",
        "gives a prefix the noise of its place among the beams",
        "same answer whatever is drafted",
        _broken(_replace("ruled_walk", "prefix_keys", _keys_by_row), checks.drafts),
    ),
    Mutant(
        "noise keyed by the last token",
        "lets cousins with one token share their noise",
        "counts of drawn items",
        _broken(_replace("noise", "child_keys", _keys_by_token), checks.items_law),
    ),
    Mutant(
        "conditional ranks are free ranks",
        "fresh noise, in the code",
        "race on the same noise",
        _broken(_replace("rules.gumbel", "conditional_ranks", _unconditioned), checks.race),
    ),
    Mutant(
        "conditional ranks are moved ranks",
        "adds one difference to all children",
        "race on the same noise",
        _broken(_replace("rules.gumbel", "conditional_ranks", _accumulated), checks.race),
    ),
    Mutant(
        "ties to the larger path",
        "breaks ties the other way",
        "race with ties",
        _broken(_replace("rules.gumbel", "best", _best_last), checks.ties),
    ),
    Mutant(
        "a root without noise",
        "starts ranks from 0",
        "law of the best rank value",
        _broken(
            lambda patch: patch.setattr(Beams, "root", classmethod(_rootless)),
            checks.best_rank_law,
        ),
    ),
    Mutant(
        "the accepted kept by what accepted them",
        "prefers candidates whose numbers were small",
        "counts of relaxed beams",
        _broken(
            _rule("RELAXED", Rule(_kept_by_acceptance, "draw", "accept", "keep")),
            checks.relaxed_law,
        ),
    ),
    Mutant(
        "acceptance by the numbers of the draft",
        "shares a stream between drawing a candidate and accepting it",
        "counts of relaxed beams",
        _broken(_rule("RELAXED", Rule(_relaxed, "draw", "draft", "keep")), checks.relaxed_law),
    ),
    Mutant(
        "a repaired level goes on",
        "walks on below beams that were drawn from the residual",
        "slow relaxed rule",
        _broken(
            _rule("RELAXED", Rule(_never_stopped, "draw", "accept", "keep")), checks.relaxed_steps
        ),
    ),
    Mutant(
        "the accepted are drawn again",
        "leaves them in the residual",
        "slow relaxed rule",
        _broken(_replace("rules.relaxed", "_residual", _residual_of_all), checks.relaxed_steps),
    ),
)
