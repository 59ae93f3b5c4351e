"""Training sequences and batches.

A sequence is BOS followed by the L tokens of each item, oldest first, so the token at position t >=
1 is of level (t - 1) mod L, and position t predicts level t mod L.  One pass trains every prefix at
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specbeam.bundle import PromptTemplate
from specbeam.training.data.vocabulary import BOS_TOKEN_ID, PAD_TOKEN_ID

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes the batches of an epoch; the same seed and epoch give the same batches.

    Attributes:
        histories: item numbers of each training sequence, oldest first.
        paths: token paths of the items. Shape (N, L).
        template: gives the window, as in serving.
        batch_tokens: most tokens per batch, padding included (one sequence may exceed it).
        augment: share of sequences from which items are dropped.
        seed: of shuffling and augmentation.
    """

    histories: Sequence[Int32Array]
    paths: Int32Array
    template: PromptTemplate
    batch_tokens: int
    augment: float
    seed: int

    def epoch(self, number: int) -> list[Int32Array]:
        """Return the batches of one epoch in random order, each of shape (B, T)."""
        rng = np.random.default_rng((self.seed, number))
        sequences: list[Int32Array] = []
        for history in self.histories:
            kept = drop_items(history, rng) if rng.random() < self.augment else history
            sequences.extend(split_long(kept, self.template.window.max_items, rng))
        return bucket(sequences, self.paths, self.batch_tokens, rng)


def drop_items(history: Int32Array, rng: np.random.Generator) -> Int32Array:
    """Drop each item with one random probability below a half; at least one item stays."""
    if len(history) < 2:
        return history
    kept = history[rng.random(len(history)) >= 0.5 * rng.random()]
    return kept if len(kept) else history[-1:]


def split_long(history: Int32Array, max_items: int, rng: np.random.Generator) -> list[Int32Array]:
    """Cut a history longer than the window into windows with a random phase."""
    if len(history) <= max_items:
        return [history]
    first = int(rng.integers(1, max_items + 1))
    cuts = range(first, len(history), max_items)
    return np.split(history, list(cuts))


def bucket(
    sequences: Sequence[Int32Array],
    paths: Int32Array,
    batch_tokens: int,
    rng: np.random.Generator,
) -> list[Int32Array]:
    """Group sequences of similar length and pad each group on the right.

    Args:
        sequences: item numbers per sequence.
        paths: token paths. Shape (N, L).
        batch_tokens: most tokens per batch.
        rng: breaks ties between equal lengths and orders the batches.

    Returns:
        Token ids, one array of shape (B, T) per batch.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    order = np.lexsort((rng.random(len(sequences)), lengths))
    depth = paths.shape[1]
    groups: list[list[int]] = []
    for index in order.tolist():
        tokens = 1 + depth * int(lengths[index])
        if groups and (len(groups[-1]) + 1) * tokens <= batch_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    batches = [pad([sequences[index] for index in group], paths) for group in groups]
    return [batches[index] for index in rng.permutation(len(batches))]


def pad(sequences: Sequence[Int32Array], paths: Int32Array) -> Int32Array:
    """Render sequences and pad them on the right. Shape (B, T)."""
    depth = paths.shape[1]
    longest = max(len(sequence) for sequence in sequences)
    tokens = np.full((len(sequences), 1 + depth * longest), PAD_TOKEN_ID, dtype=np.int32)
    tokens[:, 0] = BOS_TOKEN_ID
    for row, sequence in enumerate(sequences):
        tokens[row, 1 : 1 + depth * len(sequence)] = paths[sequence].reshape(-1)
    return tokens
