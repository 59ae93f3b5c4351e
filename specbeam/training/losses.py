"""Losses over item tokens.

Full-vocabulary normalisation is kept in both losses: a served score may be a log-probability over
the whole vocabulary, so the mass outside the right level has to be learned to be small.
"""

import torch
from torch import Tensor

from specbeam.training.data.vocabulary import PAD_TOKEN_ID


def labelled_rows(
    logits: Tensor, tokens: Tensor, item_length: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that predict an item token.

    Args:
        logits: shape (B, T, V).
        tokens: shape (B, T), padded on the right.
        item_length: L.

    Returns:
        Logits (R, V), labels (R,), level of each label (R,) in 0 .. L - 1.
    """
    labels = tokens[:, 1:]
    valid = labels != PAD_TOKEN_ID
    level = (torch.arange(labels.shape[1]) % item_length).expand_as(labels)
    return logits[:, :-1][valid], labels[valid].long(), level[valid]


def item_cross_entropy(
    logits: Tensor, labels: Tensor, level: Tensor, level_codes: Tensor, smoothing: float
) -> Tensor:
    """Return the mean cross-entropy, smoothed towards the codes of the label's own level.

    Args:
        logits: shape (R, V).
        labels: shape (R,).
        level: level of each label. Shape (R,).
        level_codes: 1 where a token id is a used code of a level, else 0. Shape (L, V).
        smoothing: probability moved to the uniform distribution over the level's codes.

    Returns:
        A scalar, in nats per token.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    loss = -logprobs.gather(1, labels[:, None]).mean()
    if smoothing == 0.0:
        return loss
    uniform = level_codes / level_codes.sum(dim=1, keepdim=True)
    spread = -(logprobs * uniform[level]).sum(dim=1).mean()
    return (1.0 - smoothing) * loss + smoothing * spread


def distillation_loss(draft_logits: Tensor, target_logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted mean of KL(target || draft) over rows.

    Args:
        draft_logits: shape (R, V).
        target_logits: shape (R, V).
        weights: non-negative weight of each row. Shape (R,).

    Returns:
        A scalar, in nats per token.
    """
    target = torch.log_softmax(target_logits, dim=-1)
    draft = torch.log_softmax(draft_logits, dim=-1)
    divergence = (target.exp() * (target - draft)).sum(dim=-1)
    return (divergence * weights).sum() / weights.sum()
