"""Passes are counted where they happen; an interval ends with the LM head, if one follows."""

from __future__ import annotations

import time

import numpy as np

from tests.unit.engine.models import runner_of, tiny_model


def test_every_pass_is_counted_and_taken_once() -> None:
    runner = runner_of(tiny_model("llama"))
    runner.meter.finish()  # no pass yet: nothing to end
    assert runner.meter.take() == ()
    before = time.monotonic_ns()
    runner.prefill(0, np.array([1, 4, 9]))
    runner.forward_rows(0, 3, np.array([7]), np.array([3]), np.ones((1, 1), bool))
    first, second = runner.meter.take()
    assert before <= first[0] < first[1] <= second[0] < second[1] <= time.monotonic_ns()
    assert runner.meter.take() == ()
    see = np.eye(2, dtype=bool)
    runner.prefill_with_rows(0, np.array([1, 4]), np.array([7, 8]), np.array([2, 2]), see)
    assert len(runner.meter.take()) == 1


def test_an_interval_ends_with_the_last_use_of_the_head() -> None:
    runner = runner_of(tiny_model("llama"))
    hidden = runner.prefill(0, np.array([1, 4, 9]))
    runner.logits(hidden)
    after_first = time.monotonic_ns()
    runner.logits(hidden)
    ((start, end),) = runner.meter.take()
    assert start < after_first <= end
