"""On CUDA scoring and selection are queued without waiting, and decide what the CPU decides."""

from __future__ import annotations

import pytest
import torch

from specbeam.decoding.scoring import SCORE_KINDS
from tests.gpu.test_sync import no_synchronisation
from tests.selection import Selection, catalogue, filters

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("kind", SCORE_KINDS)
def test_selection_waits_for_nothing_and_equals_the_cpu(kind: str) -> None:
    for wanted in filters(catalogue()):
        selection = Selection(kind, wanted, torch.device("cuda"))
        selection.queue()  # libraries set themselves up, and wait, when first used
        with no_synchronisation():
            steps = selection.queue()
        expected = Selection(kind, wanted, torch.device("cpu")).queue()
        for (nodes, scores, complete), want in zip(steps, expected, strict=True):
            torch.testing.assert_close(nodes.cpu(), want[0], check_dtype=False)
            torch.testing.assert_close(scores.cpu(), want[1], atol=1e-5, rtol=0)
            assert bool(complete) == bool(want[2])
