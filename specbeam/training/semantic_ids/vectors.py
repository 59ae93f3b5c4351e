"""Tools on row vectors that all embeddings share."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

POWER_ITERATIONS = 5
# A row below this share of the root mean square norm is rounding noise of a decomposition.
SMALLEST_NORM = 1e-5


def normalised(vectors: FloatArray) -> FloatArray:
    """Return rows of length 1; rows without information (relative norm below 1e-5) become 0.

    Args:
        vectors: shape (N, d).

    Returns:
        float32, shape (N, d).
    """
    norms = np.linalg.norm(vectors.astype(np.float32, copy=False), axis=1, keepdims=True)
    scale = float(np.sqrt(np.mean(np.square(norms, dtype=np.float64)))) if norms.size else 0.0
    known = norms > SMALLEST_NORM * scale
    return np.where(known, vectors / np.where(known, norms, 1), 0).astype(np.float32)


def left_singular(matrix: Any, dims: int, *, power: float, seed: int) -> FloatArray:
    """Return left singular vectors times singular values to a power (randomised SVD).

    Args:
        matrix: sparse, shape (N, M).
        dims: singular values wanted; at most min(N, M).
        power: of the singular values; 1 keeps the geometry of the rows.
        seed: of the random start.

    Returns:
        Shape (N, d). A row of zeros may come back as rounding noise, which `normalised` clears.
    """
    from sklearn.utils.extmath import randomized_svd  # type: ignore[import-untyped]

    rank = max(1, min(dims, *matrix.shape))
    left, values, _ = randomized_svd(
        matrix, rank, n_iter=POWER_ITERATIONS, random_state=seed, flip_sign=True
    )
    vectors: FloatArray = (left * values**power).astype(np.float32)
    return vectors
