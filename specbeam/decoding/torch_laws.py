"""Temperature and top-k on logits of children, without waiting for the device."""

from __future__ import annotations

import torch

from specbeam.decoding.laws import COLDEST
from specbeam.decoding.selection import Selection


def shaped_logits(logits: torch.Tensor, selection: Selection) -> torch.Tensor:
    """Return logits whose softmax is the law of each node's children; see `laws.shaped_law`.

    Args:
        logits: -inf for dead children.  Shape (R, C).
        selection: names the temperature and how many children stay.

    Returns:
        Shape (R, C), fp64 unless the temperature is 1.
    """
    if 0 < selection.top_k < logits.shape[1]:
        logits = logits.masked_fill(~_largest(logits, selection.top_k), -torch.inf)
    if selection.temperature == 1.0:
        return logits
    dead = torch.isneginf(logits)
    values = logits.double()
    values = values - values.amax(dim=1, keepdim=True)
    return (values / max(selection.temperature, COLDEST)).masked_fill(dead, -torch.inf)


def _largest(logits: torch.Tensor, count: int) -> torch.Tensor:
    """Which `count` values of each row are largest, ties to the smaller position."""
    threshold = torch.topk(logits, count, dim=1).values[:, -1:]
    above, equal = logits > threshold, logits == threshold
    missing = count - above.sum(dim=1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= missing))
