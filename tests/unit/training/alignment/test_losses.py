import math

import pytest
import torch
from torch import Tensor

from specbeam.training.alignment.losses import (
    atspeed_s_loss,
    beam_cross_entropy,
    listwise_kl,
    total_variation,
)

ALL = torch.tensor([[True, True, True]])


def logs(*rows: list[float]) -> Tensor:
    return torch.log(torch.tensor(rows, dtype=torch.float64))


def softmax(values: list[float]) -> list[float]:
    total = sum(map(math.exp, values))
    return [math.exp(value) / total for value in values]


def test_total_variation_equals_the_hand_computed_value() -> None:
    draft = torch.cat([logs([0.5, 0.25, 0.25]), torch.tensor([[0.0, 0.0, -9.0]])])
    teacher = torch.cat([logs([0.25, 0.25, 0.5]), torch.tensor([[math.log(3.0), 0.0, 9.0]])])
    exists = torch.tensor([[True, True, True], [True, True, False]])
    # Row 0: (1/4 + 0 + 1/4) / 2.  Row 1: (1/2, 1/2) against (3/4, 1/4), the third is padding.
    assert float(total_variation(draft, teacher, exists)) == pytest.approx(0.25 + 0.25)


def test_total_variation_softens_by_its_temperature() -> None:
    draft, teacher = logs([0.8, 0.2]), logs([0.6, 0.4])
    # At temperature 1/2 probabilities are squared and normalised: .64 / .68 and .36 / .52.
    found = total_variation(draft, teacher, None, temperature=0.5)
    assert float(found) == pytest.approx(0.64 / 0.68 - 0.36 / 0.52)
    assert float(total_variation(draft, teacher, None)) == pytest.approx(0.2)


def test_atspeed_s_equals_the_hand_computed_value() -> None:
    draft, teacher = logs([0.1, 0.6, 0.3]), logs([0.2, 0.3, 0.5])
    # The draft's two best are candidates 1 and 2; the teacher's mass on the last of them counts.
    q, p = softmax([0.6 / 0.5, 0.3 / 0.5]), softmax([0.3 / 0.5, 0.5 / 0.5])
    divergence = sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))
    entropy = -sum(a * math.log(a) for a in q)
    found = atspeed_s_loss(draft, teacher, ALL, top_k=2, temperature=0.5)
    assert float(found) == pytest.approx(divergence + p[1] * entropy)


def test_plain_atspeed_s_takes_the_probabilities_as_they_are() -> None:
    draft, teacher = logs([0.1, 0.6, 0.3]), logs([0.2, 0.3, 0.5])
    divergence = 0.6 * math.log(0.6 / 0.3) + 0.3 * math.log(0.3 / 0.5)
    entropy = -0.6 * math.log(0.6) - 0.3 * math.log(0.3)
    found = atspeed_s_loss(draft, teacher, ALL, top_k=2, temperature=None)
    assert float(found) == pytest.approx(divergence + 0.5 * entropy)


@pytest.mark.parametrize("temperature", [0.5, None])
def test_atspeed_s_takes_what_is_there_of_short_rows(temperature: float | None) -> None:
    short = atspeed_s_loss(
        logs([0.3, 0.7]), logs([0.6, 0.4]), ALL[:, :2], top_k=20, temperature=temperature
    )
    padded = atspeed_s_loss(
        torch.cat([logs([0.3, 0.7]), torch.tensor([[5.0, 0.0]])], dim=1),
        torch.cat([logs([0.6, 0.4]), torch.tensor([[7.0, 0.0]])], dim=1),
        torch.tensor([[True, True, False, False]]),
        top_k=3,
        temperature=temperature,
    )
    assert float(padded) == pytest.approx(float(short))


@pytest.mark.parametrize("temperature", [1.0, 1e-3, None])
def test_no_gradient_is_ever_nan(temperature: float | None) -> None:
    logits = torch.tensor(
        [[0.0, 1.0, 2.0], [300.0, -300.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 3.0]],
        requires_grad=True,
    )
    exists = torch.tensor(
        [[True, True, True], [True, True, True], [True, False, False], [False, False, False]]
    )
    draft = torch.log_softmax(logits, dim=1)
    teacher = torch.log_softmax(torch.tensor([[9.0, -200.0, 0.0]] * 4), dim=1)
    losses = [
        atspeed_s_loss(draft, teacher, exists, top_k=2, temperature=temperature),
        total_variation(draft, teacher, exists, temperature=temperature or 1.0),
        listwise_kl(draft, teacher, exists, temperature=temperature or 1.0),
        beam_cross_entropy(draft, teacher.exp(), exists),
    ]
    for loss in losses:
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert torch.isfinite(gradient).all()


def test_a_row_without_candidates_counts_nothing() -> None:
    none = torch.zeros(1, 3, dtype=torch.bool)
    draft, teacher = logs([0.1, 0.6, 0.3]), logs([0.2, 0.3, 0.5])
    assert float(atspeed_s_loss(draft, teacher, none, top_k=2, temperature=1.0)) == 0.0
    assert float(atspeed_s_loss(draft, teacher, none, top_k=2, temperature=None)) == 0.0
    assert float(total_variation(draft, teacher, none)) == 0.0
    assert float(listwise_kl(draft, teacher, none)) == 0.0


def test_listwise_kl_equals_the_hand_computed_value() -> None:
    # Two beams of scores log .75 and log .25 with two children each, of which one is padding.
    beams = logs([0.75, 0.75, 0.25, 0.25])
    teacher = beams + logs([0.5, 0.5, 1.0, 1.0])
    draft = beams + logs([0.2, 0.8, 1.0, 1.0])
    exists = torch.tensor([[True, True, True, False]])
    # The first row weighs .75; the list is a distribution as it stands.
    expected = 0.75 * (0.5 * math.log(0.5 / 0.2) + 0.5 * math.log(0.5 / 0.8))
    assert float(listwise_kl(draft, teacher, exists)) == pytest.approx(expected)
    p, q = softmax([math.log(0.6) / 2, 0.0]), softmax([math.log(0.9) / 2, 0.0])
    halved = sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    found = listwise_kl(logs([0.9, 1.0]), logs([0.6, 1.0]), ALL[:, :2], temperature=2.0)
    assert float(found) == pytest.approx(halved)


def test_beam_cross_entropy_equals_the_hand_computed_value() -> None:
    draft = torch.cat([logs([0.5, 0.25, 0.25]), torch.tensor([[math.log(0.5), -1.0, -7.0]])])
    below = torch.tensor([[0.5, 0.25, 0.0], [0.25, 0.0, 9.0]])
    exists = torch.tensor([[True, True, True], [True, True, False]])
    expected = 0.5 * math.log(2.0) + 0.25 * math.log(4.0) + 0.25 * math.log(2.0)
    assert float(beam_cross_entropy(draft, below, exists)) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_equal_distributions_lose_nothing_and_others_something(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    one, two = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    exists = torch.rand(6, 9, generator=generator) < 0.8
    exists[:, 0] = True
    for loss in (total_variation, listwise_kl):
        assert float(loss(one, one, exists)) == pytest.approx(0.0, abs=1e-12)
        assert float(loss(one, two, exists)) > 0.01
