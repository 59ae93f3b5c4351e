"""From a model's output to the logits of the candidates of each choice."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from specbeam.training.batches import Batch
from specbeam.training.choices import Choices, ChoiceTables


@dataclass(frozen=True, slots=True)
class LevelChoices:
    """The choices of a batch on one level, with the places of their logits.

    Attributes:
        level: 0 .. L - 1.
        choices: Q choices.
        flat: row of each choice's logits in the model's output seen as (B * T, V). Shape (Q,).
        tokens: as in `choices`, on the device.
        exists: the candidates that are not padding, on the device; None if all are.
    """

    level: int
    choices: Choices
    flat: Tensor
    tokens: Tensor | None
    exists: Tensor | None

    def gather(self, logits: Tensor) -> Tensor:
        """Return the candidates' logits. Shape (Q, W).

        Args:
            logits: shape (B, T, V).
        """
        rows = logits.reshape(-1, logits.shape[-1])[self.flat]
        return rows if self.tokens is None else rows.gather(1, self.tokens)


def level_choices(
    batch: Batch, tables: ChoiceTables, device: torch.device
) -> Iterator[LevelChoices]:
    """Yield the choices of each level on which the batch has any.

    Args:
        batch: R items.
        tables: candidates of each item's path.
        device: of the logits.
    """
    row, column = batch.places
    length = batch.tokens.shape[1]
    for level in range(tables.depth):
        choices = tables.of(batch.items, level)
        if not len(choices.place):
            continue
        place = choices.place
        flat = row[place] * length + column[place] * tables.depth + level
        free = choices.tokens is None
        yield LevelChoices(
            level,
            choices,
            torch.from_numpy(flat).to(device),
            None if choices.tokens is None else torch.from_numpy(choices.tokens).to(device),
            None if free else torch.from_numpy(choices.alive).to(device),
        )
