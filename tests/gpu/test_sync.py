"""On CUDA a pass is queued without waiting for the device, and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from specbeam.engine import ModelRunner
from tests.unit.engine.models import CLASSES, RandomTree, runner_of, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

PROMPT = np.array([1, 9, 17, 30, 4])
TOLERANCE = {"fp32": 1e-4, "bf16": 0.1, "fp64": 1e-11}


@contextmanager
def no_synchronisation() -> Iterator[None]:
    """Raise where torch would wait for the device."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def run_passes(runner: ModelRunner) -> list[torch.Tensor]:
    """A prefill, two passes with rows and a pruning between them; then rows with the prompt."""
    tree = RandomTree(runner, 0, PROMPT, 0)
    first = tree.grow(9)
    tree.keep([3, 7])
    at_once = RandomTree(runner, 1, PROMPT, 1, at_once=8)
    return [tree.root, first, tree.grow(12), at_once.root, at_once.first, at_once.grow(5)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", CLASSES)
def test_a_pass_waits_for_nothing_and_equals_the_cpu(family: str, dtype: str) -> None:
    model = tiny_model(family)
    runner = runner_of(model, dtype, device="cuda")
    run_passes(runner)  # libraries set themselves up, and wait, when first used
    with no_synchronisation():
        found = run_passes(runner)
    for ours, expected in zip(found, run_passes(runner_of(model, dtype)), strict=True):
        torch.testing.assert_close(ours.cpu(), expected, atol=TOLERANCE[dtype], rtol=0)
