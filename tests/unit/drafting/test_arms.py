"""Which way requests go: tried, settled for, left again; hopeless ways are never tried."""

import random
from collections import Counter

import pytest

from specbeam.drafting.arms import ArmChooser
from specbeam.drafting.ways import PLAIN, Flow, Way, ways_of

ROOT, ONE = Way(Flow.ROOT_FIRST), Way(Flow.ONE_PASS, True)
FREE = {PLAIN: 0.0, ROOT: 0.0, ONE: 0.0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def arms(clock: Clock) -> ArmChooser:
    return ArmChooser(exploration=0.02, rng=random.Random(1), clock=clock)


def _drive(
    arms: ArmChooser, clock: Clock, ms: dict[Way, float], n: int, kind: str = "kind"
) -> Counter[Way]:
    """Ask and record n times, with noise and now and then somebody else's load."""
    rng, taken = random.Random(3), Counter[Way]()
    for _ in range(n):
        clock.now += 0.05
        way = arms.choose(kind, dict.fromkeys(ms, 0.0))
        taken[way] += 1
        noise = rng.uniform(0.9, 1.1) * (20 if rng.random() < 0.05 else 1)
        arms.record(kind, way, ms[way] * noise)
    return taken


def test_every_way_is_tried_first(arms: ArmChooser, clock: Clock) -> None:
    assert _drive(arms, clock, {PLAIN: 1, ROOT: 1, ONE: 1}, 12) == {PLAIN: 4, ROOT: 4, ONE: 4}


def test_the_quickest_is_settled_for_and_the_others_are_looked_at(
    arms: ArmChooser, clock: Clock
) -> None:
    ms = {PLAIN: 10.0, ROOT: 8.0, ONE: 9.5}
    _drive(arms, clock, ms, 40)
    taken = _drive(arms, clock, ms, 600)
    assert 0.9 < taken[ROOT] / 600 < 1.0


def test_changes_are_followed_in_both_directions(arms: ArmChooser, clock: Clock) -> None:
    _drive(arms, clock, {PLAIN: 10, ROOT: 5}, 200)
    _drive(arms, clock, {PLAIN: 10, ROOT: 15}, 80)
    assert _drive(arms, clock, {PLAIN: 10, ROOT: 15}, 200)[PLAIN] > 180
    # The way back is found by looking alone.
    _drive(arms, clock, {PLAIN: 10, ROOT: 6}, 3000)
    assert _drive(arms, clock, {PLAIN: 10, ROOT: 6}, 200)[ROOT] > 180


def test_a_way_that_must_take_longer_is_never_tried(arms: ArmChooser) -> None:
    for _ in range(100):
        way = arms.choose("kind", {PLAIN: 5.0, ROOT: 9.0})
        arms.record("kind", way, 6.0)
        assert way == PLAIN


def test_a_way_that_could_be_quicker_is_tried(arms: ArmChooser) -> None:
    for _ in range(4):
        arms.record("kind", PLAIN, 10.0)
    assert arms.choose("kind", {PLAIN: 5.0, ROOT: 9.0}) == ROOT


def test_nearly_as_quick_is_no_reason_to_draft(arms: ArmChooser) -> None:
    for _ in range(8):
        arms.record("kind", PLAIN, 10.0)
        arms.record("kind", ROOT, 9.8)
    taken = Counter(arms.choose("kind", {PLAIN: 0.0, ROOT: 0.0}) for _ in range(200))
    assert taken[PLAIN] > 180


def test_kinds_are_kept_apart(arms: ArmChooser, clock: Clock) -> None:
    _drive(arms, clock, {PLAIN: 10, ROOT: 5}, 40, "a")
    _drive(arms, clock, {PLAIN: 5, ROOT: 10}, 40, "b")
    assert _drive(arms, clock, {PLAIN: 10, ROOT: 5}, 100, "a")[ROOT] > 90
    assert _drive(arms, clock, {PLAIN: 5, ROOT: 10}, 100, "b")[PLAIN] > 90


def test_no_way_is_an_error(arms: ArmChooser) -> None:
    with pytest.raises(ValueError, match="no way"):
        arms.choose("kind", {})


def test_ways_need_somebody_who_drafts() -> None:
    flows = (Flow.PLAIN, Flow.ROOT_FIRST, Flow.ONE_PASS)
    assert ways_of(flows, has_model=False, has_others=False) == [PLAIN]
    assert ways_of(flows[:2], has_model=True, has_others=False) == [PLAIN, Way(flows[1], True)]
    assert len(ways_of(flows, has_model=True, has_others=True)) == 5
    assert ways_of(flows[1:2], has_model=False, has_others=True) == [Way(flows[1], False)]


def test_a_way_that_seldom_drafts_is_not_hoped_for(arms: ArmChooser) -> None:
    rng = random.Random(5)
    taken = Counter[Way]()
    for _ in range(300):
        way = arms.choose("kind", {PLAIN: 0.0, ROOT: 0.0})
        taken[way] += 1
        # The same search; looking for a tree costs a little, and finds none worth sending.
        ms = rng.uniform(90, 110) + (3 if way == ROOT else 0)
        arms.record("kind", way, ms, drafted=way == PLAIN)
    assert taken[ROOT] < 25


def test_a_detour_is_not_taken_for_plain_searches_that_were_held_up(arms: ArmChooser) -> None:
    for ms in (150.0, 140.0, 130.0, 160.0):  # somebody else's load
        arms.record("kind", PLAIN, ms)
    taken = Counter[Way]()
    for _ in range(200):
        way = arms.choose("kind", {PLAIN: 0.0, ROOT: 0.0})
        taken[way] += 1
        arms.record("kind", way, 100.0, drafted=way == PLAIN)
    assert taken[ROOT] < 15


def test_ways_that_seldom_draft_are_compared_where_there_is_no_plain_one(arms: ArmChooser) -> None:
    for _ in range(8):
        arms.record("kind", ROOT, 10.0, drafted=False)
        arms.record("kind", ONE, 8.0, drafted=False)
    taken = Counter(arms.choose("kind", {ROOT: 0.0, ONE: 0.0}) for _ in range(100))
    assert taken[ONE] > 90
