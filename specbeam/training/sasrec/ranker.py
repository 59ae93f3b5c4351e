"""Ranking with a trained SASRec."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from specbeam.training.evaluation.ranking import top_items
from specbeam.training.sasrec.batches import padded
from specbeam.training.sasrec.model import SasRec

Int32Array = npt.NDArray[np.int32]

# Scores are made for so many users times items at once.
MAX_SCORES = 2**25


class SasRecRanker:
    """Scores all trained items with one matrix product per batch.

    An item without a train interaction has an embedding nobody trained: it is neither read in a
    history nor recommended.
    """

    def __init__(self, model: SasRec, trained: Int32Array, num_items: int) -> None:
        """Keep the model and both item numberings.

        Args:
            model: its item i is item `trained[i]` of the dataset.
            trained: numbers of the items with train interactions, ascending.
            num_items: N of the dataset.
        """
        self._model, self._trained, self._num_items = model, trained, num_items
        self._known = known_numbers(trained, num_items)
        self.batch_size = max(1, min(256, MAX_SCORES // num_items))

    def rank(self, histories: Sequence[Int32Array], limit: int) -> Int32Array:
        """Return the model's best items that are not in the histories."""
        scores = np.full((len(histories), self._num_items), -np.inf, np.float32)
        scores[:, self._trained] = self._scores(histories)
        return top_items(scores, histories, limit)

    def _scores(self, histories: Sequence[Int32Array]) -> npt.NDArray[np.float32]:
        known = [self._known[history] for history in histories]
        known = [numbers[numbers >= 0] for numbers in known]
        sequences = padded(known, self._model.config.max_length)
        last = (sequences > 0).sum(dim=1).clamp(min=1) - 1
        self._model.eval()
        with torch.inference_mode():
            states = self._model(sequences)[torch.arange(len(sequences)), last]
            scores: npt.NDArray[np.float32] = self._model.logits(states).numpy()
        return scores


def known_numbers(trained: Int32Array, num_items: int) -> Int32Array:
    """Return the model's number of each item of the dataset, -1 without one. Shape (N,)."""
    numbers = np.full(num_items, -1, np.int32)
    numbers[trained] = np.arange(len(trained), dtype=np.int32)
    return numbers
