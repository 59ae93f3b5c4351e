"""Noise of a seed and a prefix: what a seed means, its law, and the same numbers in torch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from specbeam.decoding import torch_noise
from specbeam.decoding.noise import (
    STREAMS,
    child_keys,
    conditional_ranks,
    gumbels,
    prefix_keys,
    uniforms,
)
from tests.exactness.plain_noise import gumbel_of, key_of, uniform_of

SEEDS = (0, 1, 2**63, 2**64 - 1, 1234567890123456789)
CPU = torch.device("cpu")
# Of the prefixes (3, padding) and (4, 9) for the seed 7.
GOLDEN_KEYS = ["0x65f2a89203a20def", "0x93c2f9b239b3db55"]
GOLDEN_NOISE = [-0.597426237633152, -1.00804881775117]


def random_paths(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 200_000, (40, int(rng.integers(0, 6))))


def test_what_a_seed_means_never_changes() -> None:
    """Stored seeds would give other items."""
    keys = prefix_keys(7, np.array([[3, -1], [4, 9]]))
    assert [hex(key) for key in keys.tolist()] == GOLDEN_KEYS
    assert gumbels(keys).tolist() == pytest.approx(GOLDEN_NOISE, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_keys_equal_plain_integers(seed: int) -> None:
    for paths in map(random_paths, range(6)):
        keys = prefix_keys(seed, paths)
        assert keys.tolist() == [key_of(seed, tuple(path)) for path in paths.tolist()]
        for stream, number in STREAMS.items():
            want = [uniform_of(key, number) for key in keys.tolist()]
            assert uniforms(keys, stream).tolist() == want
        want = [gumbel_of(seed, tuple(path)) for path in paths.tolist()]
        np.testing.assert_allclose(gumbels(keys), want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_torch_computes_the_same_bits(seed: int) -> None:
    rng = np.random.default_rng(3)
    keys, tokens = prefix_keys(seed, random_paths(2)), rng.integers(-1, 200_000, (40, 17))
    uploaded = torch_noise.upload_keys(keys, CPU)
    below = torch_noise.child_keys(uploaded, torch.from_numpy(tokens))
    assert (below.numpy().view(np.uint64) == child_keys(keys, tokens)).all()
    for stream in STREAMS:
        same = torch_noise.uniforms(below, stream).numpy() == uniforms(
            child_keys(keys, tokens), stream
        )
        assert same.all()
    found = torch_noise.gumbels(below).numpy()
    np.testing.assert_allclose(found, gumbels(child_keys(keys, tokens)), rtol=0, atol=1e-12)


def test_uniform_numbers_are_uniform_in_every_stream_and_apart() -> None:
    """Neighbouring tokens, prefixes, seeds and streams have nothing in common."""
    tokens = np.tile(np.arange(300), (300, 1))
    keys = child_keys(prefix_keys(5, np.arange(300)[:, None]), tokens)
    assert len(np.unique(keys)) == keys.size
    per_stream = [uniforms(keys, stream).ravel() for stream in STREAMS]
    other_seed = uniforms(child_keys(prefix_keys(6, np.arange(300)[:, None]), tokens)).ravel()
    for numbers in [*per_stream, other_seed]:
        assert 0 < numbers.min() and numbers.max() < 1
        assert kstest(numbers, "uniform").pvalue > 1e-4
    sources = np.stack([*per_stream, other_seed, np.roll(per_stream[0], 1)])
    correlations = np.corrcoef(sources) - np.eye(len(sources))
    assert np.abs(correlations).max() < 5 / math.sqrt(keys.size)


def test_no_bits_give_zero_or_one() -> None:
    """The extremes of what is left after the shift."""
    for bits in (0, (1 << 53) - 1):
        number = (bits | 1) * 2.0**-53
        assert 0 < number < 1
        assert math.isfinite(-math.log(-math.log(number)))


def slow_rank(rank: float, scores: list[float], noise: list[float], child: int) -> float:
    """By arrival times: the first of the children arrives when the node does."""
    times = [math.exp(-(s + g)) for s, g in zip(scores, noise, strict=True)]
    return -math.log(math.exp(-rank) + times[child] - min(times))


@pytest.mark.parametrize("seed", range(30))
def test_conditional_ranks_are_arrival_times(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.normal(-4.0, 2.0, (7, 9))
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    scores[2] = -np.inf
    scores[3, 1:] = -np.inf
    ranks, noise = rng.normal(0.0, 2.0, 7), rng.gumbel(size=scores.shape)
    found = conditional_ranks(ranks, scores, noise)
    for row in range(7):
        live = np.flatnonzero(scores[row] > -np.inf)
        given = scores[row, live].tolist(), noise[row, live].tolist()
        want = [slow_rank(ranks[row], *given, child) for child in range(len(live))]
        np.testing.assert_allclose(found[row, live], want, rtol=0, atol=1e-8)
        assert (found[row, scores[row] == -np.inf] == -np.inf).all()
        # Not nearly: a chain of only children must not drift.
        assert not len(live) or found[row].max() == ranks[row]
    tensors = map(torch.from_numpy, (ranks, scores, noise))
    on_device = torch_noise.conditional_ranks(*tensors).numpy()
    np.testing.assert_allclose(on_device, found, rtol=0, atol=1e-12)


def test_ranks_survive_scores_of_any_size() -> None:
    """Cold laws have scores far below zero; neither overflow nor a lost order."""
    scores = np.array([[-1e30, -3e30, -2e30], [-800.0, -801.0, 0.0], [0.0, -1e-17, -745.0]])
    ranks, noise = np.array([3.0, -700.0, 40.0]), np.zeros((3, 3))
    noise[2] = [-3.0, 36.0, 0.0]
    for found in (
        conditional_ranks(ranks, scores, noise),
        torch_noise.conditional_ranks(*map(torch.from_numpy, (ranks, scores, noise))).numpy(),
    ):
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(found.max(axis=1), ranks)
        np.testing.assert_array_equal(found.argsort(axis=1)[0], [1, 2, 0])


def test_dead_parents_have_dead_children_on_the_device() -> None:
    """A device walk carries beams that are dead; not a number must not come of them."""
    scores = torch.tensor([[-torch.inf, -torch.inf], [-1.0, -torch.inf]], dtype=torch.float64)
    ranks = torch.tensor([-torch.inf, 0.5], dtype=torch.float64)
    found = torch_noise.conditional_ranks(ranks, scores, torch.zeros_like(scores))
    assert found.tolist() == [[-math.inf, -math.inf], [0.5, -math.inf]]
