"""Temperature and top-k, on logits in torch and on log-probabilities in numpy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from specbeam.decoding.laws import shaped_law
from specbeam.decoding.selection import Selection
from specbeam.decoding.torch_laws import shaped_logits


def slow_law(row: list[float], temperature: float, top_k: int) -> list[float]:
    """One node's children, one after the other."""
    live = [place for place, value in enumerate(row) if value > -math.inf]
    kept = sorted(live, key=lambda place: (-row[place], place))[: top_k or None]
    if not kept:
        return [-math.inf] * len(row)
    largest = max(row[place] for place in kept)
    weights = {place: math.exp((row[place] - largest) / temperature) for place in kept}
    total = math.log(math.fsum(weights.values()))
    return [
        (row[place] - largest) / temperature - total if place in weights else -math.inf
        for place in range(len(row))
    ]


@pytest.mark.parametrize("seed", range(40))
def test_laws_equal_a_slow_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    # A coarse grid makes ties at the cut common.
    logits = np.round(rng.normal(0.0, 2.0, (9, 12)) * 2) / 2
    logits[rng.random(logits.shape) < 0.3] = -np.inf
    logits[4] = -np.inf
    temperature = float(rng.choice([1.0, 0.05, 0.7, 100.0]))
    selection = Selection("GUMBEL", 0, temperature, int(rng.choice([0, 1, 3, 12, 99])))
    want = [slow_law(row, temperature, selection.top_k) for row in logits.tolist()]
    np.testing.assert_allclose(shaped_law(logits, selection), want, rtol=0, atol=1e-12)
    found = torch.log_softmax(shaped_logits(torch.from_numpy(logits), selection), -1).numpy()
    found[4] = -np.inf  # as the expansions do: no child is alive
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-20, 1e-3])
def test_no_law_is_so_cold_that_children_die(temperature: float) -> None:
    logits = np.array([[2.0, 1.0, -np.inf, 1.5], [0.0, -np.inf, -np.inf, -np.inf]])
    selection = Selection("GUMBEL", 0, temperature)
    cold = torch.log_softmax(shaped_logits(torch.from_numpy(logits), selection), -1).numpy()
    for law in (shaped_law(logits, selection), cold):
        np.testing.assert_array_equal(law > -np.inf, logits > -np.inf)
        np.testing.assert_array_equal(law[0].argmax(), 0)
        assert law[1, 0] == 0.0


@pytest.mark.parametrize(
    "values",
    [
        {"rule": "BEST"},
        {"rule": "GUMBEL", "seed": -1},
        {"rule": "GUMBEL", "seed": 2**64},
        {"rule": "GUMBEL", "temperature": 0.0},
        {"rule": "GUMBEL", "temperature": math.nan},
        {"rule": "GUMBEL", "temperature": 100.1},
        {"rule": "GUMBEL", "top_k": -1},
        {"rule": "TOP_K", "temperature": 0.5},
        {"rule": "TOP_K", "top_k": 5},
    ],
)
def test_impossible_selections_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"rule|seed|temperature|top_k"):
        Selection(**values)  # type: ignore[arg-type]
