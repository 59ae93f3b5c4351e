"""Losses over the choices that lead to items.

A choice's candidates are the children of a trie node (TRIE), or all token ids (VOCAB); logits of
everything else never enter.
"""

import torch
from torch import Tensor


def choice_logprobs(logits: Tensor, exists: Tensor | None) -> Tensor:
    """Normalise logits over the candidates that exist.

    Args:
        logits: shape (Q, W).
        exists: false where padded; None if nothing is. Shape (Q, W).

    Returns:
        Log-probabilities; 0 where padded. Shape (Q, W).
    """
    if exists is None:
        return torch.log_softmax(logits, dim=-1)
    lowest = torch.finfo(logits.dtype).min
    logprobs = torch.log_softmax(logits.masked_fill(~exists, lowest), dim=-1)
    return logprobs.masked_fill(~exists, 0.0)


def soft_cross_entropy(logits: Tensor, exists: Tensor | None, labels: Tensor) -> Tensor:
    """Return the sum over choices of the cross-entropy with a label distribution, in nats.

    Args:
        logits: shape (Q, W).
        exists: false where padded; None if nothing is. Shape (Q, W).
        labels: rows sum to 1, 0 where padded. Shape (Q, W).
    """
    return -(labels * choice_logprobs(logits, exists)).sum()


def distillation_loss(draft_logits: Tensor, target_logits: Tensor, exists: Tensor | None) -> Tensor:
    """Return the sum over choices of KL(target || draft), in nats.

    Args:
        draft_logits: shape (Q, W).
        target_logits: shape (Q, W).
        exists: false where padded; None if nothing is. Shape (Q, W).
    """
    target = choice_logprobs(target_logits, exists)
    draft = choice_logprobs(draft_logits, exists)
    mass = target.exp() if exists is None else target.exp() * exists
    return (mass * (target - draft)).sum()


def label_loss(logits: Tensor, exists: Tensor | None, chosen: Tensor) -> Tensor:
    """Return the sum over choices of the cross-entropy with one candidate, in nats.

    Args:
        logits: shape (Q, W).
        exists: false where padded; None if nothing is. Shape (Q, W).
        chosen: column of the label. Shape (Q,).
    """
    return -choice_logprobs(logits, exists).gather(1, chosen[:, None]).sum()
