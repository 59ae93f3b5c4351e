"""On CUDA scoring and selection are queued without waiting, and decide what the CPU decides."""

from __future__ import annotations

import pytest
import torch

from tests.gpu.test_sync import no_synchronisation
from tests.selection import KINDS, Selection, catalogue, filters

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize(("kind", "rule"), KINDS)
def test_selection_waits_for_nothing_and_equals_the_cpu(kind: str, rule: str) -> None:
    for wanted in filters(catalogue()):
        selection = Selection(kind, wanted, torch.device("cuda"), rule)
        selection.queue()  # libraries set themselves up, and wait, when first used
        with no_synchronisation():
            steps = selection.queue()
        expected = Selection(kind, wanted, torch.device("cpu"), rule).queue()
        for step, want in zip(steps, expected, strict=True):
            torch.testing.assert_close(step.nodes.cpu(), want.nodes, check_dtype=False)
            torch.testing.assert_close(step.scores.cpu(), want.scores, atol=1e-5, rtol=0)
            assert bool(step.complete) == bool(want.complete)
            if want.ranks is not None:
                torch.testing.assert_close(step.ranks.cpu(), want.ranks, atol=1e-5, rtol=0)
            if want.children is not None:
                torch.testing.assert_close(step.children.cpu(), want.children, atol=1e-5, rtol=0)
