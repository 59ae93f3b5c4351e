"""A running average of the weights, which ranks better than any single step's weights."""

import torch
from torch import Tensor, nn

# The average of a run's first steps forgets them faster.
RAMP = 10.0


class WeightAverage:
    """Exponential moving average of a model's parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the current weights.

        Args:
            model: the model that is trained.
            decay: share of the old average kept per step, 0 .. 1; 0 follows the weights exactly.
        """
        self._parameters = list(model.parameters())
        self._decay = decay
        self._names = [name for name, _ in model.named_parameters()]
        self._values = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after step number `step` (from 1)."""
        decay = min(self._decay, (1.0 + step) / (RAMP + step)) if self._decay else 0.0
        torch._foreach_lerp_(self._values, [p.detach() for p in self._parameters], 1.0 - decay)

    def weights(self) -> dict[str, Tensor]:
        """Return the averages by parameter name; they are live, not copies."""
        return dict(zip(self._names, self._values, strict=True))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights with the average; a second call undoes it."""
        for value, parameter in zip(self._values, self._parameters, strict=True):
            held = parameter.detach().clone()
            parameter.copy_(value)
            value.copy_(held)

    @torch.no_grad()
    def restore(self, weights: dict[str, Tensor]) -> None:
        """Set the averages.

        Raises:
            KeyError: a parameter is missing from `weights`.
            RuntimeError: a shape differs.
        """
        for name, value in zip(self._names, self._values, strict=True):
            value.copy_(weights[name])
