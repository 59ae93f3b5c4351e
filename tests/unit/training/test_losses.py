import math

import pytest
import torch

from specbeam.training.losses import distillation_loss, item_cross_entropy, labelled_rows


def test_distillation_loss_equals_the_hand_computed_value() -> None:
    # Row 0: p = (1/2, 1/2), q = (1/4, 3/4).  Row 1: p = q, weighted three times.
    target = torch.log(torch.tensor([[0.5, 0.5], [0.9, 0.1]]))
    draft = torch.log(torch.tensor([[0.25, 0.75], [0.9, 0.1]]))
    expected = (0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0)) / 4.0
    loss = distillation_loss(draft, target, torch.tensor([1.0, 3.0]))
    assert float(loss) == pytest.approx(expected, abs=1e-6)


def test_smoothing_only_reaches_the_codes_of_the_level() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    level_codes = torch.tensor([[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 1.0, 0.0]])
    loss = item_cross_entropy(logits, torch.tensor([1]), torch.tensor([1]), level_codes, 0.1)
    spread = -(math.log(0.2) + math.log(0.3)) / 2.0
    assert float(loss) == pytest.approx(-0.9 * math.log(0.2) + 0.1 * spread, abs=1e-6)


def test_labelled_rows_skip_padding_and_know_the_level() -> None:
    tokens = torch.tensor([[1, 5, 9, 6, 8], [1, 7, 9, 0, 0]])
    logits = torch.arange(2 * 5 * 3).view(2, 5, 3).float()
    rows, labels, level = labelled_rows(logits, tokens, item_length=2)
    assert labels.tolist() == [5, 9, 6, 8, 7, 9]
    assert level.tolist() == [0, 1, 0, 1, 0, 1]
    assert rows[:, 0].tolist() == [0.0, 3.0, 6.0, 9.0, 15.0, 18.0]
