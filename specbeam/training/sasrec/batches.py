"""Right-padded batches of item sequences."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Int32Array = npt.NDArray[np.int32]

# Sequences are sorted by length within this many batches: little padding, still random batches.
SORTED_BATCHES = 16


def padded(sequences: Sequence[Int32Array], max_length: int) -> Tensor:
    """Return the latest items of each sequence, plus one, padded with 0 on the right.

    Args:
        sequences: item numbers, oldest first. B arrays.
        max_length: T.

    Returns:
        Int64. Shape (B, longest), longest at least 1.
    """
    longest = max([1, *(min(len(sequence), max_length) for sequence in sequences)])
    rows = np.zeros((len(sequences), longest), np.int64)
    for row, sequence in zip(rows, sequences, strict=True):
        latest = sequence[-max_length:]
        row[: len(latest)] = latest + 1
    return torch.from_numpy(rows)


def epoch_batches(
    lengths: npt.NDArray[np.int64], batch_size: int, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the sequences of each batch, every sequence once, those of a batch of similar length.

    Args:
        lengths: items per sequence. Shape (S,).
        batch_size: sequences per batch.
        rng: decides the order.
    """
    order = rng.permutation(len(lengths))
    window = SORTED_BATCHES * batch_size
    batches: list[npt.NDArray[np.int64]] = []
    for begin in range(0, len(order), window):
        part = order[begin : begin + window]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    for number in rng.permutation(len(batches)):
        yield batches[number]
