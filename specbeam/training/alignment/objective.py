"""What an alignment optimises, and how it is judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from specbeam.training.alignment.batches import AlignmentBatch
from specbeam.training.alignment.coverage import CoverageJudge
from specbeam.training.alignment.tree_loss import TreeLoss
from specbeam.training.batches import Batch
from specbeam.training.choice_logits import level_choices
from specbeam.training.choices import ChoiceTables
from specbeam.training.devices import Devices
from specbeam.training.losses import label_loss
from specbeam.training.model import device_of, forward_logits

SequenceTerm = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True, slots=True)
class LabelTerm:
    """Mean cross-entropy per item with the items that really follow, in nats.

    Attributes:
        tables: the choices that lead to each item.
        bf16: run matrix products in bfloat16.
    """

    tables: ChoiceTables
    bf16: bool

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        device = device_of(model)
        tokens = torch.from_numpy(batch.tokens).to(device)
        logits = forward_logits(model, tokens, bf16=self.bf16)
        total = logits.new_zeros(())
        for found in level_choices(batch, self.tables, device):
            chosen = torch.from_numpy(found.choices.chosen).to(device)
            total = total + label_loss(found.gather(logits), found.exists, chosen)
        return total / len(batch.items)


@dataclass(frozen=True, slots=True)
class AlignmentObjective:
    """(1 - alpha) * base + alpha * loss; judged by coverage.

    Attributes:
        alpha: share of the loss.
        base: of a batch's base sequences.
        sequences: of a batch's own sequences.
        trees: of a batch's trees.
        draft: the model that is judged.
        judge: measures coverage.
        devices: this process and the others.
    """

    alpha: float
    base: SequenceTerm | None
    sequences: SequenceTerm | None
    trees: TreeLoss | None
    draft: nn.Module
    judge: CoverageJudge
    devices: Devices

    def loss(self, model: nn.Module, batch: AlignmentBatch) -> Tensor:
        """Return the mixture, in nats per item; see `Objective`."""
        total = torch.zeros((), device=device_of(model))
        if self.base is not None and batch.base is not None:
            total = total + (1.0 - self.alpha) * self.base(model, batch.base)
        if self.sequences is not None and batch.sequences is not None:
            total = total + self.alpha * self.sequences(model, batch.sequences)
        if self.trees is not None and batch.trees is not None:
            total = total + self.alpha * self.trees(model, batch.trees)
        return total

    def validate(self) -> Mapping[str, float]:
        """Return the coverage of the validation users; see `CoverageJudge.numbers`."""
        return self.judge.numbers(self.draft, self.devices)
