import math

import pytest
import torch

from specbeam.training.losses import choice_logprobs, distillation_loss, soft_cross_entropy


def test_distillation_loss_equals_the_hand_computed_value() -> None:
    # Row 0: p = (1/2, 1/2), q = (1/4, 3/4), a third candidate is padding.  Row 1: p = q.
    target = torch.log(torch.tensor([[0.5, 0.5, 9.0], [0.9, 0.05, 0.05]]))
    draft = torch.log(torch.tensor([[0.25, 0.75, 9.0], [0.9, 0.05, 0.05]]))
    exists = torch.tensor([[True, True, False], [True, True, True]])
    expected = 0.5 * math.log(2.0) + 0.5 * math.log(2.0 / 3.0)
    assert float(distillation_loss(draft, target, exists)) == pytest.approx(expected, abs=1e-6)


def test_soft_cross_entropy_equals_the_hand_computed_value() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.6, 0.2], [1.0, 3.0, 7.0]]))
    labels = torch.tensor([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    exists = torch.tensor([[True, True, True], [True, True, False]])
    expected = -(0.5 * math.log(0.2) + 0.5 * math.log(0.6)) - math.log(0.25)
    assert float(soft_cross_entropy(logits, exists, labels)) == pytest.approx(expected, abs=1e-6)


def test_padding_gets_no_mass_and_no_gradient() -> None:
    logits = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    exists = torch.tensor([[True, True, False]])
    logprobs = choice_logprobs(logits, exists).detach()
    assert float(logprobs[0, :2].exp().sum()) == pytest.approx(1.0)
    soft_cross_entropy(logits, exists, torch.tensor([[1.0, 0.0, 0.0]])).backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 2]) == 0.0
    free = choice_logprobs(logits, None).detach()
    assert float(free.exp().sum()) == pytest.approx(1.0)
