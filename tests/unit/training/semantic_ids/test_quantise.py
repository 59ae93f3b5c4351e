import numpy as np
import pytest

from specbeam.training.semantic_ids.quality import level_usage
from specbeam.training.semantic_ids.quantise import (
    BALANCES,
    Balance,
    Codebook,
    Quantised,
    fit_codebook,
    quantise,
)
from specbeam.training.semantic_ids.vectors import FloatArray, normalised


def clustered(count: int, seed: int = 0) -> FloatArray:
    """Unit vectors around 12 centres, the first centre far more popular than the last."""
    rng = np.random.default_rng(seed)
    share = 1.0 / np.arange(1, 13) ** 1.5
    centres = rng.standard_normal((12, 16))
    chosen = rng.choice(12, count, p=share / share.sum())
    noise = rng.standard_normal((count, 16))
    return normalised((centres[chosen] + 0.3 * noise).astype(np.float32))


def skewed() -> FloatArray:
    """Clusters of which the popular ones are tight: most residuals are near 0."""
    rng = np.random.default_rng(1)
    share = 1.0 / np.arange(1, 13) ** 1.5
    chosen = rng.choice(12, 2000, p=share / share.sum())
    spread = 0.02 * (1 + chosen[:, None]) ** 1.2
    points = rng.standard_normal((12, 16))[chosen] + spread * rng.standard_normal((2000, 16))
    return points.astype(np.float32)


@pytest.fixture(scope="module", params=["none", "lower", "all"])
def quantised(request: pytest.FixtureRequest) -> Quantised:
    return quantise(clustered(600), 3, 16, balance=request.param, seed=1)


def test_codes_are_the_nearest_centroids_of_the_residuals(quantised: Quantised) -> None:
    vectors = clustered(600)
    left = vectors.astype(np.float64)
    for level, book in enumerate(quantised.codebooks):
        for item in range(len(vectors)):
            difference = book.centroids.astype(np.float64) - left[item]
            costs = (difference**2).sum(axis=1) + book.prices
            chosen = quantised.codes[item, level]
            # Single precision may pick the other one of two that are equally near.
            assert costs[chosen] <= costs.min() + 1e-5
            left[item] -= book.centroids[chosen]
        expected = (left**2).sum() / (vectors.astype(np.float64) ** 2).sum()
        assert quantised.relative_errors[level] == pytest.approx(expected, rel=1e-3)
        if level == len(quantised.codebooks) - 2:
            np.testing.assert_allclose(quantised.last_residuals, left, atol=1e-5)


def test_each_level_leaves_less(quantised: Quantised) -> None:
    errors = quantised.relative_errors
    assert 1 > errors[0] > errors[1] > errors[2] > 0


def test_equal_costs_go_to_the_lowest_code() -> None:
    centroids = np.array([[4, 0], [0, 2], [2, 0], [0, 2]], np.float32)
    book = Codebook(centroids, np.zeros(4, np.float32))
    vectors = np.array([[3, 0], [0, 2], [0, 5], [1, 1], [2, 0]], np.float32)
    assert book.assign(vectors).tolist() == [0, 1, 1, 1, 2]
    priced = Codebook(centroids, np.array([0, 9, 0, 0], np.float32))
    assert priced.assign(vectors).tolist() == [0, 3, 3, 2, 2]


def test_same_seed_same_codes() -> None:
    first, again, other = (
        quantise(clustered(400), 2, 16, balance="all", seed=seed).codes for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_balance_uses_codes_more_equally_at_little_cost() -> None:
    plain, lower = (quantise(skewed(), 2, 16, balance=balance, seed=0) for balance in BALANCES[:2])
    before, after = level_usage(plain.codes), level_usage(lower.codes)
    assert after[0] == before[0]
    assert before[1]["perplexity"] < 4 < 15 < after[1]["perplexity"]
    assert lower.relative_errors[-1] < 1.3 * plain.relative_errors[-1]


def test_the_first_level_is_balanced_only_on_request() -> None:
    vectors = clustered(2000)
    both: tuple[Balance, Balance] = ("none", "all")
    plain, even = (quantise(vectors, 1, 16, balance=balance, seed=0) for balance in both)
    assert level_usage(plain.codes)[0]["perplexity"] < 13
    assert level_usage(even.codes)[0]["perplexity"] > 15
    assert not plain.codebooks[0].prices.any()


def test_few_distinct_vectors_are_their_own_centroids() -> None:
    vectors = np.repeat(np.eye(3, dtype=np.float32), 5, axis=0)
    quantised = quantise(vectors, 3, 8, balance="all", seed=0)
    assert len(quantised.codebooks[0].centroids) == 3
    assert not any(quantised.relative_errors)
    assert len(np.unique(quantised.codes, axis=0)) == 3


def test_vectors_that_differ_by_rounding_are_no_failure() -> None:
    rng = np.random.default_rng(0)
    vectors = (1 + 1e-7 * rng.standard_normal((64, 4))).astype(np.float32)
    book = fit_codebook(vectors, 4, balance=True, seed=0)
    assert np.isfinite(book.centroids).all()
    assert np.isfinite(book.prices).all()
