"""Which way a request goes: by prices where the target tells them, and what is learned."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from orchestrator.advice import Advice, Advisor
from orchestrator.bundles import BundleTable, Serving
from orchestrator.driving import TargetWork, TurnWork
from orchestrator.ports import SessionSpec
from specbeam.decoding.selection import Selection
from specbeam.drafting.arms import ArmChooser
from specbeam.drafting.ways import PLAIN, Flow, Way
from tests.bundles import tiny_bundle

COSTS = {(1, 30): 10.0, (8, 30): 12.0, (64, 30): 40.0, (30, 0): 20.0, (200, 0): 90.0}


@pytest.fixture(scope="module")
def serving() -> Serving:
    path = str(tiny_bundle().path)
    return BundleTable.load((path,), filter_cache_bytes=1 << 20, drafters=("popularity",)).default


def _advisor(costs: dict[tuple[int, int], float] | None = None, *, plan: bool = True) -> Advisor:
    arms = ArmChooser(exploration=0.0, rng=random.Random(0))
    return Advisor(arms, plan=plan, costs=lambda: costs or {})


def _ask(
    advisor: Advisor, serving: Serving, spec: SessionSpec, *, auto: bool = True, model: bool = True
) -> Advice:
    return advisor.advise(
        serving, spec, "none", may_be_plain=auto, has_model=model, has_others=True
    )


def _learn(advisor: Advisor, serving: Serving, advice: Advice, ms: float) -> None:
    advisor.learn(serving, advice, TargetWork(), ms, 3.0)


def test_without_prices_it_is_the_plain_way_or_the_fullest(
    serving: Serving, spec: SessionSpec
) -> None:
    advisor, taken = _advisor(), Counter[Way]()
    for _ in range(40):
        advice = _ask(advisor, serving, spec)
        assert advice.planner is None and advice.prices is None
        taken[advice.way] += 1
        _learn(advisor, serving, advice, 5.0 if advice.way == PLAIN else 9.0)
    assert set(taken) == {PLAIN, Way(Flow.ROOT_FIRST, True)}
    assert taken[PLAIN] > 30
    forced = _ask(_advisor(), serving, spec, auto=False)
    assert forced.way == Way(Flow.ROOT_FIRST, True)


def test_with_prices_every_way_is_tried_and_the_quickest_stays(
    serving: Serving, spec: SessionSpec
) -> None:
    advisor, taken = _advisor(COSTS), Counter[Way]()
    quick = Way(Flow.ONE_PASS, False)
    for _ in range(120):
        advice = _ask(advisor, serving, spec)
        assert advice.planner is not None and advice.prices is not None
        taken[advice.way] += 1
        _learn(advisor, serving, advice, 45.0 if advice.way == quick else 70.0)
    assert len(taken) == 5
    assert taken[quick] > 90


def test_hopeless_ways_are_left_alone(serving: Serving, spec: SessionSpec) -> None:
    # Rows are so dear that no tree can pay.
    costs = {(1, 30): 10.0, (2, 30): 10.0, (4, 30): 500.0, (64, 30): 9000.0, (3, 0): 10.0}
    advisor, taken = _advisor(costs), Counter[Way]()
    for _ in range(30):
        advice = _ask(advisor, serving, spec)
        taken[advice.way] += 1
        _learn(advisor, serving, advice, 45.0)
    assert taken == {PLAIN: 30}


def test_the_relaxed_rule_always_goes_one_way(serving: Serving, spec: SessionSpec) -> None:
    advisor = _advisor(COSTS)
    relaxed = replace(spec, selection=Selection("RELAXED", 1), score_kind="TRIE")
    for _ in range(20):
        advice = _ask(advisor, serving, relaxed)
        assert (advice.way, advice.planner) == (Way(Flow.ROOT_FIRST, True), None)
        _learn(advisor, serving, advice, 1000.0)


def test_full_trees_can_be_had(serving: Serving, spec: SessionSpec) -> None:
    advice = _ask(_advisor(COSTS, plan=False), serving, spec)
    assert advice.planner is None and advice.prices is not None


def test_turns_put_prices_right(serving: Serving, spec: SessionSpec) -> None:
    advisor = _advisor(COSTS)
    advice = advisor.plain(serving, spec, "none")
    assert advice.prices is not None
    prices = advice.prices.prices
    turn = TurnWork(before=2, passes=1, rows=2, prompt_rows=0, forward_ms=30.0, wait_ms=34.0)
    for _ in range(80):
        advisor.learn(serving, advice, TargetWork(turns=[turn]), 50.0, None)
    assert prices.scale == pytest.approx(30.0 / float(prices.rows_ms(2, 5)), rel=0.01)
    assert prices.turn_ms == pytest.approx(4.0, rel=0.01)


def test_a_new_cost_table_replaces_the_old_one(serving: Serving, spec: SessionSpec) -> None:
    costs = dict(COSTS)
    advisor = Advisor(ArmChooser(), costs=lambda: costs)
    first = advisor.plain(serving, spec, "none").prices
    again = advisor.plain(serving, spec, "none").prices
    assert first is not None and again is not None and first.prices is again.prices
    costs = {**COSTS, (64, 30): 80.0}
    later = advisor.plain(serving, spec, "none").prices
    assert later is not None and later.prices is not first.prices
