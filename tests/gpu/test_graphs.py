"""On CUDA a replayed graph is the pass kernel by kernel, and is queued without waiting."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.test_sync import PROMPT, TOLERANCE, no_synchronisation, run_passes
from tests.unit.engine.models import CLASSES, RandomTree, runner_of, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", CLASSES)
def test_replays_equal_ordinary_passes_and_wait_for_nothing(family: str, dtype: str) -> None:
    model = tiny_model(family)
    runner = runner_of(model, dtype, device="cuda", graphs="auto")
    assert runner.static is not None
    run_passes(runner)  # records
    with no_synchronisation():
        found = run_passes(runner)
    ordinary = runner_of(model, dtype, device="cuda")
    for ours, expected in zip(found, run_passes(ordinary), strict=True):
        torch.testing.assert_close(ours, expected, atol=TOLERANCE[dtype], rtol=0)


def test_one_graph_serves_every_slot_and_recording_writes_to_none() -> None:
    runner = runner_of(tiny_model("llama"), "fp64", device="cuda", graphs=True)
    trees = [RandomTree(runner, slot, PROMPT, 0) for slot in (0, 1)]
    before = runner.pool.data[:, :, :, :, :-1].clone()
    runner.static.prepare(6, len(PROMPT) + 6)
    torch.cuda.synchronize()
    assert torch.equal(runner.pool.data[:, :, :, :, :-1], before)
    first, second = (tree.grow(6) for tree in trees)
    torch.testing.assert_close(first, second, atol=1e-12, rtol=0)
    assert torch.equal(runner.pool.view(0)[:, :, :, :-1], runner.pool.view(1)[:, :, :, :-1])
