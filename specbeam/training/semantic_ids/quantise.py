"""Residual quantisation: k-means on vectors, then on what each level leaves over.

Level l picks the centroid nearest to the residual of the levels before; the codes of an item, first
to last, describe it ever more finely.  Balanced levels add a price to each code's distance, chosen
so that codes are used about equally often: Sinkhorn steps towards uniform column sums give the
prices (Cuturi, "Sinkhorn Distances", NeurIPS 2013).  A price belongs to the code, so the code of a
vector still depends on nothing but the vector.  The steps are few on purpose: they even out codes
that lie close together, and leave well separated clusters whole, which would cost much error to
split.

Residual quantisation of item embeddings as semantic IDs: Rajput et al., "Recommender Systems with
Generative Retrieval" (TIGER), NeurIPS 2023; uniform code use: Zheng et al., "LC-Rec", ICDE 2024.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from specbeam.training.semantic_ids.paths import Int32Array
from specbeam.training.semantic_ids.vectors import FloatArray

Balance = Literal["none", "lower", "all"]
BALANCES: tuple[Balance, ...] = ("none", "lower", "all")

# Points per code that k-means and the prices are fitted on; more hardly move a centroid.
POINTS_PER_CODE = 256
POINTS_PER_PRICE = 64
KMEANS_ITERATIONS = 50
SINKHORN_ITERATIONS = 20
BALANCE_ROUNDS = 5
# Softness of the Sinkhorn plan, relative to the mean squared distance to the nearest centroid.
TEMPERATURE = 0.1
BLOCK = 16384


@dataclass(frozen=True, slots=True)
class Codebook:
    """One level.

    Attributes:
        centroids: shape (C, d).
        prices: added to squared distances; all 0 on a level that is not balanced. Shape (C,).
    """

    centroids: FloatArray
    prices: FloatArray

    def costs(self, vectors: FloatArray) -> FloatArray:
        """Return squared distance plus price, less the vector's own square. Shape (N, C)."""
        squares = np.einsum("cd,cd->c", self.centroids, self.centroids) + self.prices
        costs: FloatArray = squares - 2 * (vectors @ self.centroids.T)
        return costs

    def assign(self, vectors: FloatArray) -> Int32Array:
        """Return the cheapest code of each vector, the lowest one of equals. Shape (N,)."""
        blocks = (vectors[start : start + BLOCK] for start in range(0, len(vectors), BLOCK))
        codes = [self.costs(block).argmin(axis=1) for block in blocks]
        return np.concatenate([*codes, np.empty(0, np.int64)]).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Vectors as code paths.

    Attributes:
        codes: shape (N, L).
        codebooks: L levels.
        last_residuals: what the last level chose by. Shape (N, d).
        relative_errors: squared norm of the residual after each level, relative to the vectors'.
            L entries.
    """

    codes: Int32Array
    codebooks: tuple[Codebook, ...]
    last_residuals: FloatArray
    relative_errors: tuple[float, ...]


def quantise(
    vectors: FloatArray,
    num_levels: int,
    num_codes: int,
    *,
    balance: Balance,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Quantised:
    """Fit the levels one after another and encode the vectors.

    Args:
        vectors: shape (N, d), N at least 1.
        num_levels: L, at least 1.
        num_codes: C, codes per level at most.
        balance: the levels whose codes are priced so that they are used about equally often.
        seed: same seed and vectors, same codes.
        note: told about each level.
    """
    residuals = vectors.copy()
    total = max(_energy(vectors), 1e-30)
    codes: list[Int32Array] = []
    codebooks: list[Codebook] = []
    errors: list[float] = []
    for level in range(num_levels):
        priced = balance == "all" or (balance == "lower" and level > 0)
        codebook = fit_codebook(residuals, num_codes, balance=priced, seed=seed + level)
        chosen = codebook.assign(residuals)
        last = residuals
        residuals = last - codebook.centroids[chosen]
        codes.append(chosen)
        codebooks.append(codebook)
        errors.append(_energy(residuals) / total)
        note(f"level {level + 1} of {num_levels}: {errors[-1]:.1%} of the squared norm is left")
    return Quantised(np.stack(codes, axis=1), tuple(codebooks), last, tuple(errors))


def fit_codebook(vectors: FloatArray, num_codes: int, *, balance: bool, seed: int) -> Codebook:
    """Fit one level on a sample of the vectors.

    Args:
        vectors: shape (N, d).
        num_codes: C; fewer centroids come back where there are fewer distinct vectors.
        balance: whether to price the codes.
        seed: of the sample and of k-means.
    """
    rng = np.random.default_rng(seed)
    sample = _sample(vectors, POINTS_PER_CODE * num_codes, rng)
    distinct = np.unique(sample, axis=0)
    if len(distinct) <= num_codes:
        return Codebook(distinct, np.zeros(len(distinct), np.float32))
    codebook = Codebook(_kmeans(sample, num_codes, seed), np.zeros(num_codes, np.float32))
    if not balance:
        return codebook
    return _balanced(codebook, _sample(sample, POINTS_PER_PRICE * num_codes, rng))


def _kmeans(sample: FloatArray, num_codes: int, seed: int) -> FloatArray:
    from sklearn.cluster import KMeans  # type: ignore[import-untyped]
    from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]

    model = KMeans(num_codes, n_init=1, max_iter=KMEANS_ITERATIONS, random_state=seed)
    with warnings.catch_warnings():
        # Vectors that differ by rounding leave clusters empty; the report counts used codes.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(sample)
    centroids: FloatArray = model.cluster_centers_.astype(np.float32)
    return centroids


def _balanced(codebook: Codebook, sample: FloatArray) -> Codebook:
    """Alternate between prices for the centroids and centroids for the priced codes."""
    for _ in range(BALANCE_ROUNDS):
        codebook = Codebook(codebook.centroids, _prices(codebook, sample))
        centroids = _means(sample, codebook.assign(sample), codebook.centroids)
        codebook = Codebook(centroids, codebook.prices)
    return Codebook(codebook.centroids, _prices(codebook, sample))


def _prices(codebook: Codebook, sample: FloatArray) -> FloatArray:
    """Return prices under which a soft assignment uses all codes equally, starting from its own.

    Returns:
        Shape (C,).
    """
    num_codes = len(codebook.centroids)
    costs = Codebook(codebook.centroids, np.zeros(num_codes, np.float32)).costs(sample)
    costs += np.einsum("nd,nd->n", sample, sample)[:, None]
    temperature = TEMPERATURE * max(float(np.maximum(costs.min(axis=1), 0).mean()), 1e-9)
    scores = costs / -temperature
    potentials = codebook.prices / np.float32(-temperature)
    for _ in range(SINKHORN_ITERATIONS):
        plan = scores + potentials
        # Shifting a row keeps the exponentials in range and changes no share.
        plan -= plan.max(axis=1, keepdims=True)
        np.exp(plan, out=plan)
        plan /= plan.sum(axis=1, keepdims=True)
        share = plan.sum(axis=0) * (num_codes / len(sample))
        potentials -= np.log(np.maximum(share, 1e-12)).astype(np.float32)
    # A constant on all prices changes no choice; without it the numbers stay small.
    potentials -= potentials.mean()
    return (-temperature * potentials).astype(np.float32)


def _means(sample: FloatArray, codes: Int32Array, centroids: FloatArray) -> FloatArray:
    """Return the mean of each code's vectors; a code without any keeps its centroid."""
    from scipy import sparse

    count = np.bincount(codes, minlength=len(centroids))
    rows = (codes, np.arange(len(codes)))
    member = sparse.csr_array((np.ones(len(codes), np.float32), rows), (len(centroids), len(codes)))
    means = (member @ sample) / np.maximum(count, 1)[:, None]
    return np.where(count[:, None] > 0, means, centroids).astype(np.float32)


def _sample(vectors: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
    if len(vectors) <= size:
        return vectors
    rows: npt.NDArray[np.int64] = np.sort(rng.choice(len(vectors), size, replace=False))
    return vectors[rows]


def _energy(vectors: FloatArray) -> float:
    """Return the sum of squares, in double precision."""
    return float(np.einsum("nd,nd->n", vectors, vectors).sum(dtype=np.float64))
