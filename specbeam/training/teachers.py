"""Who says, besides the log, what might have come next."""

from typing import Protocol

import scipy.sparse as sparse

from specbeam.training.batches import Batch


class Teacher(Protocol):
    """Scores items for every place of a batch."""

    def votes(self, batch: Batch) -> sparse.csr_array:
        """Return votes for what stands at each place, given what stands before it.

        Args:
            batch: R places.

        Returns:
            Positive votes, comparable within a row only; a row may be empty.  Items that stand
            before the place have none.  Shape (R, N).
        """
