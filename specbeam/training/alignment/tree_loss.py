"""Losses over the rows of trees: the draft's word on beams against the target's."""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.alignment.config import AlignmentConfig
from specbeam.training.alignment.losses import (
    atspeed_s_loss,
    beam_cross_entropy,
    listwise_kl,
    total_variation,
)
from specbeam.training.alignment.on_policy import StudentBeams
from specbeam.training.alignment.tree_batches import TreeBatch, TreeLevel, Trees
from specbeam.training.alignment.tree_forward import tree_logits
from specbeam.training.draft_phase import SECOND_LEVEL_WEIGHT
from specbeam.training.losses import distillation_loss
from specbeam.training.model import device_of

RowLoss = Callable[[Tensor, Tensor, Tensor], Tensor]


class LevelLoss(Protocol):
    """The loss of all rows of one level."""

    def __call__(self, draft: Tensor, rows: TreeLevel, trees: Trees) -> Tensor:
        """Return the mean, in nats.

        Args:
            draft: the draft's log-probabilities. Shape as `rows.teacher`.
            rows: with the teacher's.
            trees: which the rows belong to.
        """


class TreeLoss:
    """The mean loss of a draft over the rows of each level; the second level counts double."""

    def __init__(
        self,
        level_loss: LevelLoss,
        trie: ItemTrie,
        *,
        bf16: bool,
        student: StudentBeams | None = None,
    ) -> None:
        """Keep what the loss needs.

        Args:
            level_loss: of one level.
            trie: the catalogue.
            bf16: run matrix products in bfloat16.
            student: makes trees of the draft's own beams; None for the target's alone.
        """
        self._level_loss, self._trie, self._bf16 = level_loss, trie, bf16
        self._student = student

    def __call__(self, model: nn.Module, batch: TreeBatch) -> Tensor:
        """Return the mean loss per prompt, in nats."""
        if self._student is None:
            return self._of_trees(model, batch.trees)
        kept, changed = self._student.split(model, batch)
        parts = [trees for trees in (kept, changed) if trees is not None]
        sizes = [len(trees.prompts) / len(batch.chosen) for trees in parts]
        losses = [self._of_trees(model, trees) for trees in parts]
        return torch.stack([size * one for size, one in zip(sizes, losses, strict=True)]).sum()

    def _of_trees(self, model: nn.Module, trees: Trees) -> Tensor:
        logits = tree_logits(model, self._trie, trees.prompts, trees.beams, bf16=self._bf16)
        total = torch.zeros((), device=device_of(model))
        for rows, row_logits in zip(trees.levels, logits, strict=True):
            weight = SECOND_LEVEL_WEIGHT if rows.level == 1 else 1.0
            draft = rows.candidates.logprobs(row_logits)
            total = total + weight * self._level_loss(draft, rows, trees)
        return total


def level_loss_of(config: AlignmentConfig, trie: ItemTrie) -> LevelLoss:
    """Return the loss of one level.

    Raises:
        KeyError: the loss is not one over beams.
    """
    if config.loss == "seq-kd":
        return partial(_beam_steps, trie)
    temperature = config.temperature
    if config.loss == "beam-kl":
        assert temperature is not None
        return partial(_listwise, temperature)
    losses: dict[str, RowLoss] = {
        "atspeed-s": partial(atspeed_s_loss, top_k=config.top_k, temperature=temperature),
        "atspeed-r": partial(total_variation, temperature=temperature or 1.0),
        "row-kl": distillation_loss,
    }
    return partial(_row_by_row, losses[config.loss])


def _row_by_row(loss: RowLoss, draft: Tensor, rows: TreeLevel, trees: Trees) -> Tensor:
    """Return the mean of a row loss over the rows that are alive."""
    exists = rows.candidates.exists.to(draft.device).flatten(0, 1)
    teacher = rows.teacher.to(draft.device).flatten(0, 1)
    alive = exists.any(dim=1).sum().clamp(min=1)
    return loss(draft.flatten(0, 1), teacher, exists) / alive


def _listwise(temperature: float, draft: Tensor, rows: TreeLevel, trees: Trees) -> Tensor:
    """Return the mean listwise loss over the prompts; everything else is no candidate here."""
    children = rows.candidates.children.shape[2]
    exists = rows.candidates.exists[..., :children].to(draft.device).flatten(1)
    scores = rows.scores.to(draft.device)[..., None]
    lists = [
        (scores + logprobs[..., :children]).flatten(1)
        for logprobs in (draft, rows.teacher.to(draft.device))
    ]
    return listwise_kl(lists[0], lists[1], exists, temperature=temperature) / len(draft)


def _beam_steps(trie: ItemTrie, draft: Tensor, rows: TreeLevel, trees: Trees) -> Tensor:
    """Return the mean over prompts and final beams of a step's cross-entropy."""
    below = trees.beams_below(trie, rows).to(draft.device)
    exists = rows.candidates.exists.to(draft.device)
    return beam_cross_entropy(draft.flatten(0, 1), below.flatten(0, 1), exists.flatten(0, 1)) / len(
        draft
    )
