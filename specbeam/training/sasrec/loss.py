"""Full softmax cross-entropy over a catalogue, in blocks that stay in the processor's cache."""

from typing import Any

import torch
from torch import Tensor

# Rows of logits at a time: 128 x 12,000 floats are 6 MB.
BLOCK_ROWS = 128


class _BlockedCrossEntropy(torch.autograd.Function):
    """Computes loss and gradients together, so that no (R, N) matrix is ever kept."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, items: Tensor, labels: Tensor, bf16: bool) -> Tensor:
        grad_states, grad_items = torch.empty_like(states), torch.zeros_like(items)
        dtype = torch.bfloat16 if bf16 else states.dtype
        products = states.new_empty(min(BLOCK_ROWS, len(states)), len(items), dtype=dtype)
        buffer = torch.empty_like(products, dtype=states.dtype) if bf16 else products
        short_items = items.to(dtype)
        total = states.new_zeros((), dtype=torch.float64)
        for begin in range(0, len(states), BLOCK_ROWS):
            rows = slice(begin, begin + BLOCK_ROWS)
            block, wanted = states[rows].to(dtype), labels[rows, None]
            product = torch.mm(block, short_items.T, out=products[: len(block)])
            logits = buffer[: len(block)].copy_(product) if bf16 else product
            # Softmax in place, then what the gradient needs: probability minus one-hot label.
            logits -= logits.amax(dim=1, keepdim=True)
            at_label = logits.gather(1, wanted)
            sums = logits.exp_().sum(dim=1, keepdim=True)
            total += (sums.log() - at_label).sum()
            logits /= sums
            logits.scatter_add_(1, wanted, torch.full_like(at_label, -1.0))
            error = product.copy_(logits) if bf16 else logits
            grad_states[rows] = torch.mm(error, short_items)
            grad_items += torch.mm(error.T, block)
        ctx.save_for_backward(grad_states, grad_items)
        ctx.num_rows = len(states)
        return (total / len(states)).to(states.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        grad_states, grad_items = ctx.saved_tensors
        scale = grad / ctx.num_rows
        return grad_states * scale, grad_items * scale, None, None


def catalogue_cross_entropy(
    states: Tensor, items: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Return the mean cross-entropy of the softmax over all items.

    The same number and gradients as `torch.nn.functional.cross_entropy(states @ items.T, labels)`,
    without ever holding all logits.

    Args:
        states: shape (R, D), R at least 1.
        items: embeddings. Shape (N, D).
        labels: wanted item of each row. Int64. Shape (R,).
        bf16: multiply in bfloat16; the softmax and all sums over blocks stay in float32.
    """
    loss: Tensor = _BlockedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, items, labels, bf16
    )
    return loss
