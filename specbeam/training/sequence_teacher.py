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
        asked = np.flatnonzero(column > 0)
        if not len(asked):
            return sparse.csr_array(shape)
        logits = self._logits(batch, row[asked], column[asked])
        count = min(MAX_VOTES, logits.shape[1])
        best, number = logits.topk(count, dim=1)
        value = torch.softmax(best, dim=1).double().numpy()
        item = self._trained[number.numpy()]
        place = np.repeat(asked, count)
        return sparse.csr_array((value.reshape(-1), (place, item.reshape(-1))), shape=shape)

    def _logits(self, batch: Batch, row: np.ndarray, column: np.ndarray) -> Tensor:
        """Score the model's items for what follows `column` items; seen ones get -inf."""
        known = self._known[batch.item_of[batch.events]]
        known = np.where(batch.events == NO_EVENT, -1, known)
        with torch.no_grad():
            states = self._model(torch.from_numpy(known + 1).long())
            logits: Tensor = self._model.logits(states[row, column - 1]).float()
        before = np.arange(known.shape[1]) < column[:, None]
        which, place = np.nonzero(before)
        logits[torch.from_numpy(which), torch.from_numpy(known[row[which], place]).long()] = -np.inf
        return logits
