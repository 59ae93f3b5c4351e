"""Score conventions: from logits to the log-probabilities of trie children."""

from __future__ import annotations

from enum import StrEnum

import torch

from specbeam.decoding.trie_tensors import Children


class ScoreKind(StrEnum):
    """What a token's log-probability is normalised over.

    VOCAB: the whole vocabulary, then the mask (equal to transformers).  Conventions rank items
    differently and are never mixed.
    """

    VOCAB = "VOCAB"


def child_logprobs(logits: torch.Tensor, children: Children) -> torch.Tensor:
    """Return log-probabilities of each row's children under VOCAB, -inf where not alive.

    Args:
        logits: one row per parent, fp32 or fp64.  Shape (R, V).
        children: of the same parents.

    Returns:
        Shape (R, C_d), same dtype as `logits`.
    """
    normaliser = torch.logsumexp(logits, dim=-1, keepdim=True)
    logprobs = logits.gather(1, children.tokens) - normaliser
    return logprobs.masked_fill_(~children.alive, -torch.inf)
