"""The noise of `noise`, computed on a device without waiting for it.

torch has no unsigned 64-bit arithmetic: keys are int64 of the same bits, multiplication and
addition wrap around alike, and shifts to the right lose the sign they drag along.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from specbeam.decoding import noise
from specbeam.decoding.upload import upload


def upload_keys(keys: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return keys of `noise.prefix_keys` on a device.  Shape (n,), int64."""
    return upload(np.array(keys).view(np.int64), device)


def child_keys(keys: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """See `noise.child_keys`.

    Args:
        keys: shape (n,), int64.
        tokens: shape (n, C), int64.
    """
    steps = tokens + noise.TOKEN_OFFSET
    return _mixed(keys[:, None] + steps * _signed(noise.GOLDEN))


def uniforms(keys: torch.Tensor, stream: str = "walk") -> torch.Tensor:
    """See `noise.uniforms`."""
    bits = _mixed(keys ^ _signed(noise.STREAMS[stream]))
    return (_shifted(bits, 11) | 1).double() * 2.0**-53


def gumbels(keys: torch.Tensor, stream: str = "walk") -> torch.Tensor:
    """See `noise.gumbels`."""
    return -torch.log(-torch.log(uniforms(keys, stream)))


def conditional_ranks(
    parent_ranks: torch.Tensor, scores: torch.Tensor, gumbels: torch.Tensor
) -> torch.Tensor:
    """See `noise.conditional_ranks`.

    Args:
        parent_ranks: shape (n,), fp64; -inf for dead nodes.
        scores: shape (n, C), fp64.
        gumbels: shape (n, C), fp64.
    """
    free = scores + gumbels
    best = free.argmax(dim=1, keepdim=True)
    wanted = parent_ranks[:, None]
    gaps = free - free.gather(1, best)
    small = gaps > -math.log(2.0)
    rest = torch.where(small, torch.log(-torch.expm1(gaps)), torch.log1p(-torch.exp(gaps)))
    lag = wanted - free + rest
    ranks = wanted - lag.clamp(min=0.0) - torch.log1p(torch.exp(-lag.abs()))
    return ranks.scatter(1, best, wanted).masked_fill(torch.isneginf(scores), -torch.inf)


def _mixed(values: torch.Tensor) -> torch.Tensor:
    values = (values ^ _shifted(values, 30)) * _signed(noise.FIRST_FACTOR)
    values = (values ^ _shifted(values, 27)) * _signed(noise.SECOND_FACTOR)
    return values ^ _shifted(values, 31)


def _shifted(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Shift to the right as unsigned integers."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 of the same bits."""
    return value - (1 << 64) if value >= 1 << 63 else value
