"""Batches of an alignment: sequences of the base, and sequences or trees of the loss."""

from collections.abc import Sequence
from dataclasses import dataclass

from specbeam.training.alignment.tree_batches import TreeBatch
from specbeam.training.batches import AnyBatch, Batch, BatchSource


@dataclass(frozen=True, slots=True)
class AlignmentBatch:
    """One optimiser step's share; what the configuration does not use is None.

    Attributes:
        base: sequences of what the loss is mixed with.
        sequences: sequences of a loss over whole sequences.
        trees: prompts with the target's beams, of a loss over beams.
    """

    base: Batch | None
    sequences: Batch | None
    trees: TreeBatch | None

    @property
    def num_labels(self) -> int:
        """Tokens and rows that are trained on."""
        parts = (self.base, self.sequences, self.trees)
        return sum(part.num_labels for part in parts if part is not None)


@dataclass(frozen=True, slots=True)
class AlignmentBatches:
    """Makes the batches of an epoch.

    An epoch is one pass over the loss's own data; the base fills up as many batches, again from its
    begin where it has fewer, in another random order each epoch.

    Attributes:
        base: None where alpha is 1.
        sequences: None for losses over beams, and where alpha is 0.
        trees: None for losses over sequences, and where alpha is 0.
    """

    base: BatchSource[Batch] | None
    sequences: BatchSource[Batch] | None
    trees: BatchSource[TreeBatch] | None

    def epoch(self, number: int) -> list[AlignmentBatch]:
        """Return the batches of one epoch."""
        base, sequences, trees = (
            _epoch(self.base, number),
            _epoch(self.sequences, number),
            _epoch(self.trees, number),
        )
        steps = len(trees or sequences or base or ())
        return [
            AlignmentBatch(_at(base, step), _at(sequences, step), _at(trees, step))
            for step in range(steps)
        ]


def _epoch(source: BatchSource[AnyBatch] | None, number: int) -> Sequence[AnyBatch] | None:
    return None if source is None else source.epoch(number)


def _at(batches: Sequence[AnyBatch] | None, step: int) -> AnyBatch | None:
    return None if batches is None else batches[step % len(batches)]
