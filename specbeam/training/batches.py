"""Training sequences and batches.

A sequence is BOS followed by the L tokens of each item, oldest first, so the token at position t >=
1 is of level (t - 1) mod L, and position t predicts level t mod L.  One pass trains every prefix at
once.  Batches name training events (rows of the log), not only items: a teacher that was made from
the same log has to know which of its own counts came from the user in question.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from specbeam.training.augmentation import drop_some, jitter_order, split_long
from specbeam.training.data.vocabulary import BOS_TOKEN_ID, PAD_TOKEN_ID

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]

NO_EVENT = -1


class Labelled(Protocol):
    """What a training loop has to know about a batch."""

    @property
    def num_labels(self) -> int:
        """Tokens that are predicted."""


AnyBatch = TypeVar("AnyBatch", bound=Labelled)
MadeBatch = TypeVar("MadeBatch", bound=Labelled, covariant=True)


class BatchSource(Protocol[MadeBatch]):
    """Makes the batches of an epoch; the same epoch gives the same batches every time."""

    def epoch(self, number: int) -> Sequence[MadeBatch]:
        """Return the batches of one epoch, at least one, in the order of training."""


@dataclass(frozen=True, slots=True)
class Events:
    """The train split as one array, user after user.

    Attributes:
        item: item number of each event, oldest first within a user. Shape (M,).
        start: where each user's events begin, and M at the end. Shape (U + 1,).
    """

    item: Int64Array
    start: Int64Array

    @classmethod
    def of(cls, histories: Sequence[Int32Array]) -> "Events":
        """Join the histories that are not empty."""
        some = [history for history in histories if len(history)]
        lengths = [len(history) for history in some]
        joined = np.concatenate(some) if some else np.zeros(0)
        return cls(joined.astype(np.int64), np.cumsum([0, *lengths], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.item)

    @property
    def num_users(self) -> int:
        """Users with at least one event."""
        return len(self.start) - 1

    def user(self) -> Int64Array:
        """Return the user of each event. Shape (M,)."""
        return np.repeat(np.arange(self.num_users), np.diff(self.start))


@dataclass(frozen=True)
class Batch:
    """Sequences of about equal length; R items in all.

    Attributes:
        events: training events, `NO_EVENT` behind the end of a sequence. Shape (B, S).
        item_of: item number of each training event. Shape (M,).
        paths: token paths of the items. Shape (N, L).
    """

    events: Int64Array
    item_of: Int64Array
    paths: Int32Array

    @cached_property
    def places(self) -> tuple[Int64Array, Int64Array]:
        """Row and column of each item in `events`, row by row. Two arrays of shape (R,)."""
        row, column = np.nonzero(self.events != NO_EVENT)
        return row, column

    @cached_property
    def items(self) -> Int64Array:
        """Item number at each place. Shape (R,)."""
        return self.item_of[self.events[self.places]]

    @cached_property
    def tokens(self) -> Int64Array:
        """Token ids, padded on the right. Shape (B, 1 + L * S)."""
        count, longest = self.events.shape
        depth = self.paths.shape[1]
        slots = np.full((count, longest, depth), PAD_TOKEN_ID, np.int64)
        slots[self.places] = self.paths[self.items]
        begin = np.full((count, 1), BOS_TOKEN_ID, np.int64)
        return np.concatenate([begin, slots.reshape(count, -1)], axis=1)

    @property
    def num_labels(self) -> int:
        """Tokens that are predicted."""
        return int(self.items.size) * int(self.paths.shape[1])


@dataclass(frozen=True, slots=True)
class BatchMaker:
    """Makes the batches of an epoch; the same seed and epoch give the same batches.

    Attributes:
        events: the train split.
        paths: token paths of the items. Shape (N, L).
        max_items: longest history, as in serving.
        batch_tokens: most tokens per batch, padding included (one sequence may exceed it).
        drop: share of histories from which items are dropped.
        jitter: share of histories whose order is disturbed.
        seed: of shuffling and augmentation.
    """

    events: Events
    paths: Int32Array
    max_items: int
    batch_tokens: int
    drop: float
    jitter: float
    seed: int

    def epoch(self, number: int) -> list[Batch]:
        """Return the batches of one epoch in random order."""
        rng = np.random.default_rng((self.seed, number))
        sequences: list[Int64Array] = []
        for begin, end in zip(self.events.start[:-1], self.events.start[1:], strict=True):
            history = np.arange(begin, end)
            if rng.random() < self.drop:
                history = drop_some(history, rng)
            if rng.random() < self.jitter:
                history = jitter_order(history, rng)
            sequences.extend(split_long(history, self.max_items, rng))
        groups = bucket(sequences, self.paths.shape[1], self.batch_tokens, rng)
        return [Batch(padded(group), self.events.item, self.paths) for group in groups]


def bucket(
    sequences: Sequence[Int64Array], depth: int, batch_tokens: int, rng: np.random.Generator
) -> list[list[Int64Array]]:
    """Group sequences of similar length, in random order.

    Args:
        sequences: events of each.
        depth: tokens per item, L.
        batch_tokens: most tokens per group, padding included.
        rng: breaks ties between equal lengths and orders the groups.
    """
    lengths = np.array([len(sequence) for sequence in sequences])
    order = np.lexsort((rng.random(len(sequences)), lengths))
    groups: list[list[Int64Array]] = []
    for index in order.tolist():
        tokens = 1 + depth * int(lengths[index])
        if groups and (len(groups[-1]) + 1) * tokens <= batch_tokens:
            groups[-1].append(sequences[index])
        else:
            groups.append([sequences[index]])
    return [groups[index] for index in rng.permutation(len(groups))]


def padded(sequences: Sequence[Int64Array]) -> Int64Array:
    """Stack sequences, filled up with `NO_EVENT` on the right. Shape (B, S)."""
    longest = max(len(sequence) for sequence in sequences)
    events = np.full((len(sequences), longest), NO_EVENT, np.int64)
    for row, sequence in enumerate(sequences):
        events[row, : len(sequence)] = sequence
    return events
