"""Exact top-W under the project's total order, without host synchronisation."""

from __future__ import annotations

import torch


def select_top(ranks: torch.Tensor, width: int) -> torch.Tensor:
    """Return the positions of the `width` best values, ties to the smaller position, ascending.

    `torch.topk` leaves the choice among equal values open, so it is used only for the threshold;
    which of the values equal to the threshold are taken is decided by position.  When candidates
    are laid out in ascending node order, ascending positions are ascending nodes again.

    Args:
        ranks: rank value of each candidate, -inf for dead ones.  Shape (n,), n >= width.
        width: how many to take.

    Returns:
        Positions, ascending.  Shape (width,), int64.
    """
    count = ranks.shape[0]
    if width == count:
        return torch.arange(count, device=ranks.device)
    threshold = torch.topk(ranks, width, sorted=True).values[-1]
    above = ranks > threshold
    equal = ranks == threshold
    missing = width - above.sum()
    chosen = above | (equal & (equal.cumsum(0) <= missing))
    # The chosen positions, ascending, in a shape known on the host: the largest keys are the
    # smallest positions.
    keys = torch.arange(count, 0, -1, device=ranks.device, dtype=torch.int32) * chosen
    return torch.topk(keys, width, sorted=True).indices
