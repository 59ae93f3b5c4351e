"""Sparse matrices of histories and item pairs.

The only module of the evaluation that imports scipy.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import sparse

Int32Array = npt.NDArray[np.int32]
# Any: operators of scipy's sparse arrays are typed too loosely to be of use.
CsrMatrix: TypeAlias = Any


def add_up(
    rows: npt.NDArray[np.integer],
    columns: npt.NDArray[np.integer],
    values: npt.NDArray[np.float64],
    shape: tuple[int, int],
) -> CsrMatrix:
    """Return a CSR matrix; values of the same place are added, in the order given."""
    return sparse.coo_array((values, (rows, columns)), shape=shape).tocsr()


def recency_matrix(histories: Sequence[Int32Array], num_items: int, decay: float) -> CsrMatrix:
    """Return a row per history that holds decay^age of its items, the latest having age 0.

    Args:
        histories: item numbers, oldest first. B arrays.
        num_items: N.
        decay: 1 weighs all items alike.

    Returns:
        An item that appears twice has the sum of its weights. Shape (B, N).
    """
    lengths = [len(history) for history in histories]
    items = np.concatenate([np.empty(0, np.int32), *histories])
    ages = np.concatenate([np.empty(0), *(np.arange(n)[::-1] for n in lengths)])
    rows = np.repeat(np.arange(len(histories)), lengths)
    return add_up(rows, items, decay**ages, (len(histories), num_items))


def cooccurring_users(histories: Sequence[Int32Array], num_items: int) -> CsrMatrix:
    """Return how many users have both items, the diagonal empty. Shape (N, N)."""
    present = recency_matrix([np.unique(history) for history in histories], num_items, 1.0)
    counts = (present.T @ present).tocsr()
    counts.setdiag(0)
    counts.eliminate_zeros()
    counts.sort_indices()
    return counts


def keep_largest(matrix: CsrMatrix, count: int) -> CsrMatrix:
    """Keep the largest values of each row; of equal ones those in the smaller columns.

    Args:
        matrix: CSR with sorted indices.
        count: most values kept per row.
    """
    sizes = np.diff(matrix.indptr)
    row = np.repeat(np.arange(len(sizes)), sizes)
    order = np.lexsort((matrix.indices, -matrix.data, row))
    place = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], sizes)
    kept = np.sort(order[place < count])
    values, columns = matrix.data[kept], matrix.indices[kept]
    return sparse.csr_array(
        (values, columns, np.concatenate([[0], np.cumsum(np.minimum(sizes, count))])),
        shape=matrix.shape,
    )
