"""Histories to measure with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from specbeam.bundle import Bundle


def items_for_tokens(tokens: int, item_length: int) -> int:
    """Return how many items make a prompt of about `tokens` tokens, BOS included."""
    return max(1, round((tokens - 1) / item_length))


def histories(
    bundle: Bundle, users: Sequence[np.ndarray], items_each: int, count: int, seed: int
) -> list[np.ndarray]:
    """Return `count` histories of exactly `items_each` items.

    Real histories are cut to their newest items; where none is long enough, several users'
    histories are joined.  Without users, items are drawn by popularity.

    Args:
        bundle: whose catalogue is used.
        users: item indices of each user's history, oldest first; may be empty.
        items_each: items per history.
        count: histories wanted.
        seed: of the choice.

    Returns:
        Item indices, each of shape (items_each,).
    """
    rng = np.random.default_rng(seed)
    if not len(users):
        weight = np.asarray(bundle.trie.popularity, float) + 1.0
        share = weight / weight.sum()
        return [rng.choice(bundle.trie.num_items, items_each, p=share) for _ in range(count)]
    long_enough = [user for user in users if len(user) >= items_each]
    if len(long_enough) >= count:
        chosen = rng.choice(len(long_enough), count, replace=False)
        return [long_enough[i][-items_each:] for i in chosen]
    return [_joined(users, items_each, rng) for _ in range(count)]


def _joined(users: Sequence[np.ndarray], items_each: int, rng: np.random.Generator) -> np.ndarray:
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < items_each:
        parts.append(users[int(rng.integers(len(users)))])
    return np.concatenate(parts)[-items_each:]


def prompt_of(bundle: Bundle, history: np.ndarray) -> np.ndarray:
    """Render a history of item indices.  Shape (T,)."""
    return bundle.template.render(bundle.trie.paths(history))
