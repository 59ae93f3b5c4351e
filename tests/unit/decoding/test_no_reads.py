"""Selection on a device never reads what it computes: it runs where there is nothing to read.

On the meta device tensors have shapes but no content.  tests/gpu/test_selection.py asks CUDA.
"""

from __future__ import annotations

import pytest
import torch

from specbeam.decoding.scoring import SCORE_KINDS
from tests.selection import Selection, catalogue, filters


@pytest.mark.parametrize("kind", SCORE_KINDS)
def test_levels_are_decided_without_content(kind: str) -> None:
    for wanted in filters(catalogue()):
        steps = Selection(kind, wanted, torch.device("meta")).queue()
        assert len(steps) >= 3
        assert all(tensor.is_meta for step in steps for tensor in step)
        with pytest.raises((RuntimeError, NotImplementedError)):
            steps[0][2].item()


@pytest.mark.parametrize("kind", SCORE_KINDS)
def test_the_same_steps_decide_something_on_a_cpu(kind: str) -> None:
    for wanted in filters(catalogue()):
        steps = Selection(kind, wanted, torch.device("cpu")).queue()
        assert all(bool(complete) for _, _, complete in steps[:3])
        assert torch.isfinite(steps[2][1]).any()
