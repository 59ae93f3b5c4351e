"""What other users took near the same items: counts, and soft labels made from them.

A log of a few interactions per item is too thin for a language model to learn from alone: the one
item that really came next is a single draw.  Items that stood near the history in *other* users'
histories say more about what might have come, and a model that learns both ranks better than either
(the README has the figures).  The user's own counts are taken out, or the label would contain its
own answer.

Source: neighbourhood recommenders (item-to-item co-occurrence with a cosine norm) as the teacher of
label smoothing; the mixture itself is ours.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from specbeam.training.batches import Batch, Events
from specbeam.training.data.pairs import near_pairs

Int64Array = npt.NDArray[np.int64]

WINDOW = 5
RECENT_ITEMS = 10
RECENCY_DECAY = 0.8
MAX_NEIGHBOURS = 100
# Differences of equal sums leave dust where there is nothing.
DUST = 1e-7


@dataclass(frozen=True)
class Pairs:
    """Two events of one user, at most `WINDOW` apart; each pair in both directions.

    Attributes:
        event: event the pair belongs to. Shape (P,).
        other: item number of the other event. Shape (P,).
        weight: 1 / distance over the square roots of both items' popularity. Shape (P,).
    """

    event: Int64Array
    other: Int64Array
    weight: npt.NDArray[np.float64]


def make_pairs(events: Events, num_items: int) -> Pairs:
    """Return the pairs of all users."""
    item = events.item
    norm = 1.0 / np.sqrt(np.maximum(np.bincount(item, minlength=num_items), 1))
    near = near_pairs(events.user(), WINDOW)
    one, two = item[near.first], item[near.second]
    weight = norm[one] * norm[two] / near.distance
    return Pairs(
        event=np.concatenate([near.first, near.second]),
        other=np.concatenate([two, one]),
        weight=np.concatenate([weight, weight]),
    )


class CooccurrenceTeacher:
    """Scores items for every place of a batch, from the histories of other users."""

    def __init__(self, events: Events, num_items: int) -> None:
        """Count all pairs once.

        Args:
            events: the train split.
            num_items: N.
        """
        self._item, self._num_items = events.item, num_items
        pairs = make_pairs(events, num_items)
        by_item = (pairs.weight, (events.item[pairs.event], pairs.other))
        self._all = sparse.csr_array(by_item, shape=(num_items, num_items))
        # A user may have an item twice: all of the user's counts at that item are the user's own.
        groups, self._group = np.unique(
            events.user() * num_items + events.item, return_inverse=True
        )
        by_group = (pairs.weight, (self._group[pairs.event], pairs.other))
        self._own = sparse.csr_array(by_group, shape=(len(groups), num_items))
        _keep_strongest(self._all, MAX_NEIGHBOURS)

    def votes(self, batch: Batch) -> sparse.csr_array:
        """Return the votes for what stands at each place, given what stands before it.

        Args:
            batch: R places.

        Returns:
            Positive votes; items before the place have none. Shape (R, N).
        """
        place, event, age = _before(batch)
        recent = age < RECENT_ITEMS
        shape = (len(batch.items), self._num_items)
        near, latest, weight = place[recent], event[recent], RECENCY_DECAY ** age[recent]
        by_item = sparse.csr_array((weight, (near, self._item[latest])), shape=shape)
        own_shape = (shape[0], self._own.shape[0])
        by_group = sparse.csr_array((weight, (near, self._group[latest])), shape=own_shape)
        votes = (by_item @ self._all - by_group @ self._own).tocsr()
        seen = sparse.csr_array((np.ones(len(place)), (place, self._item[event])), shape=shape)
        seen.data[:] = 1.0
        votes = (votes - votes.multiply(seen)).tocsr()
        votes.data[votes.data < DUST] = 0.0
        votes.eliminate_zeros()
        return sparse.csr_array(votes)


def _before(batch: Batch) -> tuple[Int64Array, Int64Array, Int64Array]:
    """Return all events before each place: place, event, age (0 for the latest)."""
    row, column = batch.places
    place = np.repeat(np.arange(len(row)), column)
    first = np.repeat(np.cumsum(column) - column, column)
    age = np.arange(len(place)) - first
    event = batch.events[row[place], column[place] - 1 - age]
    return place, event, age


def _keep_strongest(matrix: sparse.csr_array, limit: int) -> None:
    """Drop all but the largest entries of each row, in place; ties at the edge all stay."""
    for row in np.flatnonzero(np.diff(matrix.indptr) > limit).tolist():
        values = matrix.data[matrix.indptr[row] : matrix.indptr[row + 1]]
        values[values < np.partition(values, -limit)[-limit]] = 0.0
    matrix.eliminate_zeros()
