"""A pass never reads back what it computes: it runs where there is nothing to read.

On the meta device tensors have shapes but no content, so whatever would wait for a GPU (an element
as a Python number, a mask as indices) fails.  tests/gpu/test_sync.py asks CUDA itself.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.unit.engine.models import CLASSES, RandomTree, runner_of, tiny_model


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("family", CLASSES)
@pytest.mark.parametrize("at_once", [0, 5])
def test_passes_and_compaction_run_without_content(family: str, dtype: str, at_once: int) -> None:
    runner = runner_of(tiny_model(family), dtype, device="meta")
    tree = RandomTree(runner, 0, np.array([1, 9, 17, 30, 4]), 0, at_once)
    tree.grow(9)
    tree.keep([3, 7])
    logits = tree.grow(12)
    assert logits.shape == (12, 61)
    assert logits.is_meta
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.max(logits).item()
