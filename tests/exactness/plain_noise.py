"""The noise of a seed and a prefix once more, in Python's integers; and random selections."""

from __future__ import annotations

import math

import numpy as np

from specbeam.decoding.reference import Path, ReferenceSampling
from specbeam.decoding.selection import Selection

SEEDS = (0, 1, 2**63 + 5, 2**64 - 1)
WRAP = 1 << 64
WALK = 0x243F6A8885A308D3


def mixed(value: int) -> int:
    """The finaliser of splitmix64."""
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9 % WRAP
    value = (value ^ (value >> 27)) * 0x94D049BB133111EB % WRAP
    return value ^ (value >> 31)


def key_of(seed: int, path: Path) -> int:
    """Fold a prefix into its seed, token by token; padding is -1."""
    key = mixed((seed + 0x9E3779B97F4A7C15) % WRAP)
    for token in path:
        key = mixed((key + (token + 2) * 0x9E3779B97F4A7C15) % WRAP)
    return key


def uniform_of(key: int, stream: int = WALK) -> float:
    """An odd multiple of 2^-53 in (0, 1)."""
    return ((mixed(key ^ stream) >> 11) | 1) / (1 << 53)


def gumbel_of(seed: int, path: Path) -> float:
    """Standard Gumbel noise of the walk."""
    return -math.log(-math.log(uniform_of(key_of(seed, path))))


def plain_sampling(selection: Selection) -> ReferenceSampling | None:
    """What the reference is told of a selection; nothing where the best are taken."""
    if not selection.perturbs:
        return None
    return ReferenceSampling(
        lambda path: gumbel_of(selection.seed, path), selection.temperature, selection.top_k
    )


def random_selection(rng: np.random.Generator) -> Selection:
    """Any seed, mostly the model's own law."""
    seed = int(rng.choice(np.array(SEEDS, np.uint64)))
    temperature = float(rng.choice([1.0, 1.0, 0.3, 1.7, 100.0]))
    return Selection("GUMBEL", seed, temperature, int(rng.choice([0, 0, 1, 3, 1000])))
