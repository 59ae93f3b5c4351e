"""Item embeddings from who was taken with whom: positive PMI and a truncated SVD.

Levy, Goldberg, "Neural Word Embedding as Implicit Matrix Factorization", NeurIPS 2014; context
smoothing and 1 / distance weights: Levy, Goldberg, Dagan, TACL 2015.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.training.data.pairs import joined, near_pairs
from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.vectors import FloatArray, left_singular

CONTEXT_SMOOTHING = 0.75
WINDOW = 5


def cooccurrence_counts(
    histories: Sequence[npt.NDArray[np.int32]], num_items: int, window: int = WINDOW
) -> Any:
    """Count item pairs within a user's history, weighted by 1 / distance.

    Args:
        histories: item numbers of each user, oldest first.
        num_items: items in the catalogue, N.
        window: largest distance of a pair.

    Returns:
        Symmetric sparse counts with an empty diagonal (scipy CSR). Shape (N, N).
    """
    from scipy import sparse

    items, user = joined(histories)
    near = near_pairs(user, window)
    one, two = items[near.first], items[near.second]
    kept = one != two
    weights, pairs = 1.0 / near.distance[kept], (one[kept], two[kept])
    total = sparse.coo_array((weights, pairs), shape=(num_items, num_items)).tocsr()
    return (total + total.T).tocsr()


def positive_pmi(counts: Any) -> Any:
    """Return max(0, log p(i, j) / (p(i) p'(j))), p' being p to the power 0.75, normalised.

    Args:
        counts: symmetric sparse counts. Shape (N, N).

    Returns:
        Sparse float32 matrix without stored zeros (scipy CSR). Shape (N, N).
    """
    marginal = np.asarray(counts.sum(axis=1)).reshape(-1)
    context = marginal**CONTEXT_SMOOTHING
    context /= max(context.sum(), 1e-300)
    pairs = counts.tocoo()
    pairs.data = np.log(pairs.data / (marginal[pairs.coords[0]] * context[pairs.coords[1]]))
    pairs.data = np.maximum(pairs.data, 0.0).astype(np.float32)
    matrix = pairs.tocsr()
    matrix.eliminate_zeros()
    return matrix


def cooccurrence_vectors(
    histories: Sequence[npt.NDArray[np.int32]], num_items: int, dims: int, seed: int
) -> FloatArray:
    """Embed items by their neighbours in histories.

    Args:
        histories: item numbers of each user in the train split, oldest first.
        num_items: items in the catalogue, N.
        dims: dimensions wanted; fewer where the pairs span fewer.
        seed: of the randomised SVD.

    Returns:
        Vectors, not normalised; zero for items without neighbours. Shape (N, d).

    Raises:
        DatasetError: no user took two different items.
    """
    matrix = positive_pmi(cooccurrence_counts(histories, num_items))
    if not matrix.nnz:
        raise DatasetError("train interactions", ["no user has two different items in a row"])
    return left_singular(matrix, dims, power=0.5, seed=seed)
