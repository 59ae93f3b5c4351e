"""Ranking metrics.

Source: Recall@K = hits / truth size; NDCG@K with binary gain, its ideal taken over min(truth size,
K), because a user may have several held-out items.
"""

import math
from collections.abc import Collection, Sequence


def recall_at(ranked: Sequence[int], truth: Collection[int], k: int) -> float:
    """Return the share of `truth` among the first `k` of `ranked`.

    Args:
        ranked: distinct item numbers, best first.
        truth: item numbers to be found; not empty.
        k: cut-off.
    """
    wanted = set(truth)
    return sum(item in wanted for item in ranked[:k]) / len(wanted)


def ndcg_at(ranked: Sequence[int], truth: Collection[int], k: int) -> float:
    """Return the normalised discounted cumulative gain of the first `k` of `ranked`."""
    wanted = set(truth)
    gain = sum(1.0 / math.log2(r + 2) for r, item in enumerate(ranked[:k]) if item in wanted)
    return gain / sum(1.0 / math.log2(r + 2) for r in range(min(len(wanted), k)))
