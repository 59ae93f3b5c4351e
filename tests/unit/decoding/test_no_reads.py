"""Selection on a device never reads what it computes: it runs where there is nothing to read.

On the meta device tensors have shapes but no content.  tests/gpu/test_selection.py asks CUDA.
"""

from __future__ import annotations

import pytest
import torch

from tests.selection import KINDS, Selection, catalogue, filters


@pytest.mark.parametrize(("kind", "rule"), KINDS)
def test_levels_are_decided_without_content(kind: str, rule: str) -> None:
    for wanted in filters(catalogue()):
        steps = Selection(kind, wanted, torch.device("meta"), rule).queue()
        assert len(steps) >= 3
        tensors = [tensor for step in steps for tensor in (step.nodes, step.scores, step.complete)]
        assert all(tensor.is_meta for tensor in tensors)
        # The last level is not reported.
        reported = [step.children for step in steps[: catalogue().depth - 1]]
        assert all(children is not None and children.is_meta for children in reported)
        with pytest.raises((RuntimeError, NotImplementedError)):
            steps[0].complete.item()


@pytest.mark.parametrize(("kind", "rule"), KINDS)
def test_the_same_steps_decide_something_on_a_cpu(kind: str, rule: str) -> None:
    for wanted in filters(catalogue()):
        steps = Selection(kind, wanted, torch.device("cpu"), rule).queue()
        assert all(bool(step.complete) for step in steps[:3])
        assert torch.isfinite(steps[2].scores).any()
