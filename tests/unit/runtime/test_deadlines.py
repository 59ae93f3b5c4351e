"""Budgets of calls."""

from types import SimpleNamespace

import pytest

from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def budget(remaining, clock=None, **options):
    context = SimpleNamespace(time_remaining=lambda: remaining)
    return CallBudget.start(context, default_s=3.0, clock=clock or Clock(), **options)


def test_budget_is_what_the_caller_left():
    assert budget(2.0).remaining_s() == 2.0


@pytest.mark.parametrize("absent", [None, float("inf"), 9e9])
def test_caller_without_deadline_gets_the_default(absent):
    assert budget(absent).remaining_s() == 3.0


def test_cap_holds():
    assert budget(60.0, cap_s=5.0).remaining_s() == 5.0
    assert budget(None, cap_s=1.0).remaining_s() == 1.0


def test_time_passes():
    clock = Clock()
    running = budget(2.0, clock)
    clock.now += 0.5
    assert running.remaining_s() == 1.5
    clock.now += 9.0
    assert running.remaining_s() == 0.0


def test_call_gets_what_is_left_less_the_reserve():
    assert budget(2.0).for_call(reserve_s=0.5) == 1.5
    assert budget(2.0).for_call(reserve_s=0.5, cap_s=0.25) == 0.25


@pytest.mark.parametrize(("remaining", "reserve"), [(0.0, 0.0), (-1.0, 0.0), (1.0, 1.0)])
def test_spent_budget_is_an_error(remaining, reserve):
    with pytest.raises(DeadlineSpent):
        budget(remaining).for_call(reserve_s=reserve)


async def test_budget_of_a_real_call(echo, echo_client):
    seen = []

    def look():
        seen.append(CallBudget.start(echo.contexts[-1], default_s=99.0).remaining_s())

    echo.fault = look
    await echo_client.call("unary_unary", timeout_s=5)
    assert 3 < seen[0] < 7
