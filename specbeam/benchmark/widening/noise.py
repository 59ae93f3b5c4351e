"""What the parts of a widened model hold that carry nothing."""

from __future__ import annotations

import numpy as np
import torch

GATES = ("tiny", "zero")
_TINY = 1e-12
_CLIP = 3.0


class Noise:
    """Random filling of one tensor after the other, so that no part of the model is cheap.

    A gate is the only thing between noise and a live dim.  `tiny` ones are normal numbers with
    random mantissas that rounding absorbs: their effect on a logit is about 1e-9.  `zero` ones are
    exact, but leave a quarter of the weights zero, which a device may run through faster.
    """

    def __init__(self, gate: str, seed: int, device: torch.device, dtype: torch.dtype) -> None:
        """Start a stream of noise.

        Args:
            gate: "tiny" or "zero".
            seed: the same stream on devices of a type.
            device: where tensors are made.
            dtype: their type.
        """
        if gate not in GATES:
            raise ValueError(f"gate is {gate!r}, not one of {', '.join(GATES)}")
        self._gate, self.device, self.dtype = gate, device, dtype
        self._random = torch.Generator(device).manual_seed(seed)
        self._choice = np.random.default_rng(seed)

    def free(self, shape: tuple[int, ...], spread: float) -> torch.Tensor:
        """Return normal noise with a standard deviation."""
        noise = torch.randn(shape, generator=self._random, device=self.device, dtype=self.dtype)
        return noise.mul_(spread)

    def gate(self, shape: tuple[int, ...], spread: float) -> torch.Tensor:
        """Return weights that let nothing through that matters."""
        if self._gate == "zero":
            return torch.zeros(shape, device=self.device, dtype=self.dtype)
        return self.free(shape, 1.0).clamp_(-_CLIP, _CLIP).mul_(_TINY * spread)

    def like(self, values: torch.Tensor, count: int) -> torch.Tensor:
        """Return `count` of some values, drawn with replacement.  Shape (count,)."""
        chosen = self._choice.integers(len(values), size=count)
        return values[torch.from_numpy(chosen).to(values.device)].clone()
