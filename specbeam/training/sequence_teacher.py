"""A trained sequential recommender as a teacher: its distribution over whole items.

An item-level model learns who follows whom within minutes, because every item has an embedding of
its own; a language model over codes first has to learn what its codes mean.  It ranks the better
for being told.  The teacher is used for labels only, nothing of it is served.

Source: knowledge distillation (Hinton et al. 2015) from SASRec, here to the choices on the way to
each item; the mixture with the log's own labels is ours.
"""

import numpy as np
import scipy.sparse as sparse
import torch
from torch import Tensor

from specbeam.training.batches import NO_EVENT, Batch
from specbeam.training.sasrec.fitting import FittedSasRec
from specbeam.training.sasrec.ranker import known_numbers

MAX_VOTES = 100
# Logits are made for so many items times places at once.
BLOCK = 2**24


class SequenceTeacher:
    """Votes by the probabilities that a trained SASRec gives to items."""

    def __init__(self, fitted: FittedSasRec, num_items: int) -> None:
        """Keep the model and the numbering of its items.

        Args:
            fitted: trained on the train split.
            num_items: N of the dataset.
        """
        self._model, self._trained = fitted.model.eval(), fitted.trained
        self._known = known_numbers(fitted.trained, num_items)
        self._num_items = num_items

    def votes(self, batch: Batch) -> sparse.csr_array:
        """Return the largest probabilities of what stands at each place; see `Teacher`."""
        row, column = batch.places
        shape = (len(row), self._num_items)
        known = self._known[batch.item_of[batch.events]]
        known = np.where(batch.events == NO_EVENT, -1, known)
        with torch.no_grad():
            states = self._model(torch.from_numpy(known + 1).long())
        asked = np.flatnonzero(column > 0)
        step = max(1, BLOCK // len(self._trained))
        blocks = [asked[begin : begin + step] for begin in range(0, len(asked), step)]
        found = [self._best(known, states, row[some], column[some]) for some in blocks]
        if not found:
            return sparse.csr_array(shape)
        value, item = (np.concatenate(parts) for parts in zip(*found, strict=True))
        place = np.repeat(asked, value.shape[1])
        votes = sparse.csr_array((value.reshape(-1), (place, item.reshape(-1))), shape=shape)
        votes.eliminate_zeros()
        return votes

    def _best(
        self, known: np.ndarray, states: Tensor, row: np.ndarray, column: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return probabilities and items for what follows `column` items; seen ones get none.

        Args:
            known: the model's item numbers, -1 behind the end. Shape (B, S).
            states: the model's. Shape (B, S, D).
            row: shape (n,).
            column: shape (n,).

        Returns:
            Two arrays of shape (n, 100 or less).
        """
        with torch.no_grad():
            logits = self._model.logits(states[row, column - 1]).float()
        which, place = np.nonzero(np.arange(known.shape[1]) < column[:, None])
        logits[torch.from_numpy(which), torch.from_numpy(known[row[which], place]).long()] = -np.inf
        best, number = logits.topk(min(MAX_VOTES, logits.shape[1]), dim=1)
        # Where everything has been seen there is nothing left to vote for.
        value = torch.softmax(best, dim=1).nan_to_num(nan=0.0).double().numpy()
        return value, self._trained[number.numpy()]
