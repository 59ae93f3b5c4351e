"""Multiplication by a fixed weight, the quickest way this CPU offers.

`F.linear` finds a weight row by row and oneDNN re-orders it inside every call.  Re-ordered once,
45 M parameters in bf16 take 0.5 of the time at 1 row, 0.65 at 20 and 0.85 at 80 (one thread); in
fp32 0.8, 0.6 and 0.75.  The products are the same, sums may round differently in the last place.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
import torch.nn.functional as F

Linear = Callable[[torch.Tensor], torch.Tensor]

# Rows the packed order is chosen for; it serves any other number as well.
_PACKED_FOR_ROWS = 32
# Below this many elements MKL's fp32 product is quicker than oneDNN's (measured: 256 x 256 loses,
# 512 x 512 wins at every number of rows).
_SMALLEST_PACKED_FP32 = 1 << 18
# oneDNN compiles a kernel for every number of rows, about 1 ms and 0.7 MB each, and keeps 1024.
# Rounding up bounds how many there are.  (up to rows, step)
_ROW_STEPS = ((1, 1), (64, 4), (128, 8), (256, 16))
_LARGEST_STEP = 32


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None, *, packed: bool) -> Linear:
    """Return x -> x W^T + b for x of shape (R, in).

    Args:
        weight: shape (out, in); not used afterwards when `packed`.
        bias: shape (out,), or None.
        packed: store it in oneDNN's own order; see `worth_packing`.
    """
    if not packed:
        return functools.partial(F.linear, weight=weight, bias=bias)
    ops = torch.ops.mkldnn
    stored = ops._reorder_linear_weight(weight.contiguous(), _PACKED_FOR_ROWS)
    bias = None if bias is None else bias.contiguous()  # the operator reads it as if it were
    product = ops._linear_pointwise.default
    return lambda x: product(x, stored, bias, "none", [], "")


def worth_packing(weight: torch.Tensor) -> bool:
    """Tell whether `linear_of` should pack a weight."""
    if weight.device.type != "cpu" or not can_pack(weight.dtype):
        return False
    return weight.dtype == torch.bfloat16 or weight.numel() >= _SMALLEST_PACKED_FP32


@functools.cache
def can_pack(dtype: torch.dtype) -> bool:
    """Tell whether this build and CPU multiply packed weights of a type, and rightly.

    The operators are those torch's own compiler emits; they have no public name, so they are tried
    on a small product instead of being trusted.
    """
    if dtype not in (torch.float32, torch.bfloat16) or not torch._C._has_mkldnn:
        return False
    weight = (torch.arange(32 * 16).view(32, 16) % 7 - 3).to(dtype)
    x = (torch.arange(5 * 16).view(5, 16) % 5 - 2).to(dtype)
    try:
        found = linear_of(weight, weight[:, 0], packed=True)(x)
    except (AttributeError, NotImplementedError, RuntimeError):
        return False  # not in this build, or not for this CPU: F.linear does it
    # Small whole numbers: exact in any order of summation.
    return torch.equal(found.double(), F.linear(x.double(), weight.double(), weight[:, 0].double()))


def padded_rows(rows: int) -> int:
    """Return how many rows to run so that few different numbers of rows occur."""
    for end, step in _ROW_STEPS:
        if rows <= end:
            return -(-rows // step) * step
    return -(-rows // _LARGEST_STEP) * _LARGEST_STEP
