"""What a root head is trained on, and how it is judged.

The target reads a whole sequence.  Its state behind each item is what serving would have as the
root of the next item, and its laws along codes below that root are what the head should say there.
The codes are those of the item that came next, and those of other items below first codes that the
target finds likely: a head has to draft below the target's first codes, not below those that users
took.  As in the distillation of a draft model, the second level weighs more.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from specbeam.training.batches import Batch
from specbeam.training.choices import ChoiceTables
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import SECOND_LEVEL_WEIGHT, ItemSampler
from specbeam.training.head.coverage import CoverageProbe
from specbeam.training.head.teacher import HeadTeacher
from specbeam.training.losses import distillation_loss


class HeadObjective:
    """KL from the target's laws; judged by coverage of the target's second-level beams."""

    def __init__(
        self,
        teacher: HeadTeacher,
        tables: ChoiceTables,
        sampler: ItemSampler,
        probe: CoverageProbe,
        devices: Devices,
        *,
        levels: int,
        branches: int,
    ) -> None:
        """Keep what every step needs.

        Args:
            teacher: the frozen target.
            tables: the choices that lead to each item.
            sampler: draws items.
            probe: measures coverage.
            devices: this process and the others.
            levels: deepest level that is drafted.
            branches: items tried at each place beside the one that came, at most the number of
                first codes.
        """
        self._teacher, self._tables, self._sampler = teacher, tables, sampler
        self._probe, self._devices = probe, devices
        self._codes, self._branches = levels - 1, branches

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean distillation loss per path of codes, in nats; see `Objective`.

        Args:
            model: the head's blocks, or their wrapper over several processes.
            batch: sequences.
        """
        roots, items, taught = self._taught(batch)
        codes = self._codes_of(batch, items)
        roots = roots[:, None].expand(-1, items.shape[1], -1).flatten(0, 1)
        drafted = model(roots, self._teacher.embed(codes.flatten(0, 1)))
        # Where no level leaves a choice there is a gradient too: none.
        total = 0.0 * drafted.sum()
        for level in range(1, self._codes + 1):
            weight = SECOND_LEVEL_WEIGHT if level == 1 else 1.0
            own, wanted = drafted[:, level - 1], taught[:, level - 1]
            total = total + weight * self._level_loss(items.ravel(), level, own, wanted)
        mean: Tensor = total / items.size
        return mean

    @torch.no_grad()
    def _taught(self, batch: Batch) -> tuple[Tensor, np.ndarray, Tensor]:
        """Let the target read a batch and choose what else to try.

        Returns:
            The roots, shape (R, hidden); items at them, the real one first, shape (R, 1 + m); the
            target's states along the items' codes, shape (R (1 + m), n, hidden).
        """
        reading = self._teacher.read(batch)
        row, column = (torch.from_numpy(part) for part in batch.places)
        root = column * self._tables.depth
        roots = reading.states[row, root]
        along = root[:, None] + 1 + torch.arange(self._codes)
        taught = reading.states[row[:, None], along][:, None]
        items = batch.items[:, None]
        if self._branches:
            drawn = self._sampler.sample(self._teacher.logits(roots), self._branches)
            codes = self._codes_of(batch, drawn)
            taught = torch.cat([taught, self._teacher.branch(batch, reading, codes)], dim=1)
            items = np.concatenate([items, drawn], axis=1)
        return roots, items, taught.flatten(0, 1)

    def _codes_of(self, batch: Batch, items: np.ndarray) -> Tensor:
        """The codes that lead to the levels drafted.  Shape (..., n)."""
        codes = torch.from_numpy(batch.paths[items][..., : self._codes]).long()
        return codes.to(self._devices.device)

    def _level_loss(self, items: np.ndarray, level: int, own: Tensor, wanted: Tensor) -> Tensor:
        """Sum the loss over the choices of one level.

        Args:
            items: whose paths. Shape (P,).
            level: 0 .. L - 1.
            own: the head's states behind `level` codes. Shape (P, hidden).
            wanted: the target's. Shape (P, hidden).
        """
        choices, device = self._tables.of(items, level), own.device
        if not len(choices.place):
            return own.new_zeros(())
        place = torch.from_numpy(choices.place).to(device)
        drafted, taught = (self._teacher.logits(states[place]) for states in (own, wanted))
        if choices.tokens is None:
            return distillation_loss(drafted, taught, None)
        tokens = torch.from_numpy(choices.tokens).to(device)
        exists = torch.from_numpy(choices.alive).to(device)
        return distillation_loss(drafted.gather(1, tokens), taught.gather(1, tokens), exists)

    def validate(self) -> Mapping[str, float]:
        """Return the coverage numbers; nothing without prompts."""
        return self._probe.measure()
