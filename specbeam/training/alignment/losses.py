"""Losses between the draft's and the target's distributions over the candidates of a row.

A row is a prefix; its candidates are the children of a trie node and, where scores are normalised
over the vocabulary, one more that stands for all other token ids.  Nothing here knows models,
beams or weights of levels: rows in, a sum over rows in nats out, and no gradient is ever NaN.

Where distributions are softened by a temperature, `exists` may be None for "nothing is padded".
"""

import torch
from torch import Tensor

from specbeam.training.losses import choice_logprobs


def total_variation(
    draft_logprobs: Tensor,
    teacher_logprobs: Tensor,
    exists: Tensor | None,
    *,
    temperature: float = 1.0,
) -> Tensor:
    """Return the sum over rows of half the L1 distance of the softened distributions.

    Args:
        draft_logprobs: logits will do as well. Shape (Q, C).
        teacher_logprobs: likewise. Shape (Q, C).
        exists: false where padded. Shape (Q, C).
        temperature: divides the log-probabilities; below 1 sharpens.

    Source: AtSpeed-R (arXiv 2410.05165, the released `loss_soft`): one draw of the draft is
    accepted with probability 1 - TV.
    """
    draft = choice_logprobs(draft_logprobs / temperature, exists).exp()
    teacher = choice_logprobs(teacher_logprobs / temperature, exists).exp()
    distance = (draft - teacher).abs()
    if exists is not None:
        distance = distance * exists
    return 0.5 * distance.sum()


def atspeed_s_loss(
    draft_logprobs: Tensor,
    teacher_logprobs: Tensor,
    exists: Tensor,
    *,
    top_k: int,
    temperature: float | None,
) -> Tensor:
    """Return the sum over rows of reverse KL on the draft's best candidates, and of their density.

    Per row, with I the draft's `top_k` best candidates (all of them where there are fewer), q and p
    the draft's and teacher's probabilities of these:

    - constrained: q~ = softmax(q / temperature) and p~ = softmax(p / temperature) over I, a softmax
      of probabilities, not of logits.  Plain (no temperature): q~ = q and p~ = p as they are.
    - KL(q~ || p~), plus p~ of the candidate that the *draft* ranks last in I times the entropy of
      q~: where the teacher still likes the boundary, the draft is to be denser.

    Args:
        draft_logprobs: shape (Q, C).
        teacher_logprobs: shape (Q, C).
        exists: false where padded. Shape (Q, C).
        top_k: K.
        temperature: None for the plain variant.

    Source: AtSpeed-S (arXiv 2410.05165), the released `loss_strict`.  There NaN of rows without
    candidates is overwritten by 0; here no NaN arises, neither in the value nor in the gradient.
    """
    hidden = draft_logprobs.detach().masked_fill(~exists, -torch.inf)
    best = hidden.topk(min(top_k, hidden.shape[1]), dim=1).indices  # padding comes last
    there = exists.gather(1, best)
    draft, teacher = draft_logprobs.gather(1, best), teacher_logprobs.gather(1, best)
    if temperature is None:
        draft, teacher = draft.masked_fill(~there, 0.0), teacher.masked_fill(~there, 0.0)
    else:
        draft = choice_logprobs(draft.exp() / temperature, there)
        teacher = choice_logprobs(teacher.exp() / temperature, there)
    mass = draft.exp() * there
    divergence = (mass * (draft - teacher)).sum(dim=1)
    entropy = -(mass * draft).sum(dim=1)
    last = (there.sum(dim=1, keepdim=True) - 1).clamp(min=0)
    boundary = teacher.gather(1, last)[:, 0].exp()
    return (divergence + boundary * entropy).sum()


def listwise_kl(
    draft_scores: Tensor, teacher_scores: Tensor, exists: Tensor, *, temperature: float = 1.0
) -> Tensor:
    """Return the sum over lists of KL(teacher || draft) of the softmax of cumulative scores.

    A list holds the children of *all* beams of a prompt on one level, each with the score of its
    beam plus its own log-probability: the candidates among which a search keeps the best K.  So a
    row counts as much as its beam weighs, and a candidate as much as it may displace others.

    Args:
        draft_scores: the target's exact beam scores plus the draft's log-probabilities.
            Shape (G, W * C).
        teacher_scores: cumulative scores of the target. Shape (G, W * C).
        exists: false where padded. Shape (G, W * C).
        temperature: divides the scores; above 1 more of the boundary at rank K counts.

    Source: ours.  AtSpeed compares row by row; coverage is about the set over all rows.
    """
    draft = choice_logprobs(draft_scores / temperature, exists)
    teacher = choice_logprobs(teacher_scores / temperature, exists)
    return (teacher.exp() * exists * (teacher - draft)).sum()


def beam_cross_entropy(draft_logprobs: Tensor, beams_below: Tensor, exists: Tensor) -> Tensor:
    """Return the sum over rows and final beams of the cross-entropy with the beam's own step.

    Args:
        draft_logprobs: shape (Q, C).
        beams_below: the teacher's final beams below each candidate. Shape (Q, C).
        exists: false where padded. Shape (Q, C).

    Source: SeqKD in AtSpeed's code (arXiv 2410.05165), after Kim and Rush 2016.
    """
    return -(draft_logprobs.masked_fill(~exists, 0.0) * beams_below).sum()
