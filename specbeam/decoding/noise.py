"""Noise that belongs to a seed and a prefix, and to nothing else.  numpy only.

Every prefix has a key, made from the seed token by token.  What is drawn for a prefix is a function
of its key, so it is the same for any drafter, flow, batch and order of rows, and after a resume.
`torch_noise` computes the same numbers on a device.
"""

from __future__ import annotations

import numpy as np

# Steps and multipliers of splitmix64, the generator the keys are mixed with.
GOLDEN = 0x9E37_79B9_7F4A_7C15
FIRST_FACTOR = 0xBF58_476D_1CE4_E5B9
SECOND_FACTOR = 0x94D0_49BB_1331_11EB
_MASK = (1 << 64) - 1
# Padding is -1; no token gets factor 0.
TOKEN_OFFSET = 2

# What noise is for.  Uses that must not depend on each other have streams of their own; the numbers
# are part of what a seed means and never change.
STREAMS = {
    "walk": 0x243F_6A88_85A3_08D3,  # perturbed scores of stochastic beam search
    "accept": 0x1319_8A2E_0370_7344,  # whether a drafted node is accepted
    "keep": 0xA409_3822_299F_31D0,  # which of too many accepted nodes stay
    "draw": 0x082E_FA98_EC4E_6C89,  # draws from the target's law, and from what is left of it
    "draft": 0x4528_21E6_38D0_1377,  # draws of a drafter
}


def prefix_keys(seed: int, paths: np.ndarray) -> np.ndarray:
    """Return the key of each prefix.

    Args:
        seed: 64 bits, unsigned.
        paths: tokens, padding included.  Shape (n, level).

    Returns:
        Shape (n,), uint64.
    """
    start = (seed + GOLDEN) & _MASK
    keys = _mixed(np.full(len(paths), start, np.uint64))
    for tokens in np.asarray(paths).T:
        keys = child_keys(keys, tokens[:, None])[:, 0]
    return keys


def child_keys(keys: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the keys of prefixes that are one token longer.

    Args:
        keys: of the shorter prefixes.  Shape (n,), uint64.
        tokens: one or several next tokens for each.  Shape (n, C).

    Returns:
        Shape (n, C), uint64; different within a row where the tokens are.
    """
    steps = np.asarray(tokens, np.int64) + TOKEN_OFFSET
    return _mixed(keys[:, None] + steps.astype(np.uint64) * np.uint64(GOLDEN))


def uniforms(keys: np.ndarray, stream: str = "walk") -> np.ndarray:
    """Return a number of (0, 1) for each key: an odd multiple of 2^-53, never 0 nor 1.

    Args:
        keys: any shape, uint64.
        stream: one of `STREAMS`.
    """
    bits = _mixed(keys ^ np.uint64(STREAMS[stream]))
    found: np.ndarray = ((bits >> np.uint64(11)) | np.uint64(1)) * 2.0**-53
    return found


def gumbels(keys: np.ndarray, stream: str = "walk") -> np.ndarray:
    """Return standard Gumbel noise for each key.  Same shape, float64."""
    noise: np.ndarray = -np.log(-np.log(uniforms(keys, stream)))
    return noise


def _mixed(values: np.ndarray) -> np.ndarray:
    """Scatter 64-bit integers; one to one."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(FIRST_FACTOR)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(SECOND_FACTOR)
    found: np.ndarray = values ^ (values >> np.uint64(31))
    return found


def conditional_ranks(
    parent_ranks: np.ndarray, scores: np.ndarray, gumbels: np.ndarray
) -> np.ndarray:
    """Perturb the scores of children so that the largest of a node's equals the node's own rank.

    Given that, they are distributed as if every item below had noise of its own and a prefix ranked
    as its best item: the best W prefixes by rank are those of W items drawn without replacement.

    Args:
        parent_ranks: rank of each node.  Shape (n,).
        scores: cumulative log-probabilities of its children, -inf for dead ones.  Shape (n, C).
        gumbels: independent standard Gumbel noise.  Shape (n, C).

    Returns:
        Shape (n, C), float64; -inf for dead children.

    Source: stochastic beam search (arXiv 1903.06059), the stable form of its appendix B.3.
    """
    dead = scores == -np.inf
    free = scores + gumbels
    best = free.argmax(axis=1)
    rows = np.arange(len(free))
    largest = free[rows, best]
    wanted = np.asarray(parent_ranks, np.float64)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        lag = wanted - free + _log_of_rest(free - largest[:, None])
        ranks: np.ndarray = wanted - np.maximum(lag, 0.0) - np.log1p(np.exp(-np.abs(lag)))
    ranks[rows, best] = parent_ranks
    ranks[dead] = -np.inf
    return ranks


def _log_of_rest(gaps: np.ndarray) -> np.ndarray:
    """log(1 - exp(gap)) of gaps <= 0, whichever way loses fewer digits."""
    small = gaps > -np.log(2.0)
    found: np.ndarray = np.where(small, np.log(-np.expm1(gaps)), np.log1p(-np.exp(gaps)))
    return found
