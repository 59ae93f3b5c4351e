"""Metric values per user, for all users at once.

`specbeam.training.evaluation.metrics` defines the metrics one user at a time; the tests hold the
two together.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Int32Array = npt.NDArray[np.int32]
Float64Array = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CUTOFFS = (5, 10, 20)
METRICS = tuple(f"{metric}@{k}" for metric in ("recall", "ndcg") for k in CUTOFFS)
GROUPS = ("all", "seen", "unseen")
# No item: fills the end of a ranking that is shorter than asked for.
NO_ITEM = -1

# Per-user values by group and metric; NaN for users without truth items in the group.
UserValues = Mapping[str, Mapping[str, Float64Array]]


def user_values(
    ranked: Int32Array, truth: Sequence[Int32Array], popularity: Int32Array
) -> UserValues:
    """Return Recall and NDCG of each user at all cut-offs, by group of truth items.

    Args:
        ranked: item numbers, best first, NO_ITEM at the end of shorter rankings. Shape (U, K),
            K at least the largest cut-off.
        truth: item numbers to be found per user. U arrays.
        popularity: train interactions per item. Shape (N,).
    """
    seen = [popularity[items] > 0 for items in truth]
    groups = {
        "all": truth,
        "seen": [items[known] for items, known in zip(truth, seen, strict=True)],
        "unseen": [items[~known] for items, known in zip(truth, seen, strict=True)],
    }
    return {
        group: ranking_values(ranked, items, len(popularity)) for group, items in groups.items()
    }


def ranking_values(
    ranked: Int32Array,
    truth: Sequence[Int32Array],
    num_items: int,
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, Float64Array]:
    """Return Recall and NDCG of each user.

    Args:
        ranked: as for `user_values`.
        truth: item numbers to be found per user, possibly none. U arrays.
        num_items: N.
        cutoffs: at most K.

    Returns:
        Values by "recall@k" and "ndcg@k", NaN for users without truth items. Shape (U,) each.
    """
    hits = _hits(ranked, truth, num_items)
    sizes = np.array([len(items) for items in truth])
    discount = 1.0 / np.log2(np.arange(ranked.shape[1]) + 2)
    best = np.concatenate([[0.0], np.cumsum(discount)])
    gain = np.cumsum(hits * discount, axis=1)
    found = np.cumsum(hits, axis=1)
    known = np.maximum(sizes, 1)
    values: dict[str, Float64Array] = {}
    for k in cutoffs:
        values[f"recall@{k}"] = np.where(sizes, found[:, k - 1] / known, np.nan)
        ideal = best[np.minimum(known, k)]
        values[f"ndcg@{k}"] = np.where(sizes, gain[:, k - 1] / ideal, np.nan)
    return values


def _hits(ranked: Int32Array, truth: Sequence[Int32Array], num_items: int) -> BoolArray:
    """Mark the ranked items that are wanted. Shape (U, K)."""
    user = np.repeat(np.arange(len(truth), dtype=np.int64), [len(items) for items in truth])
    wanted = user * num_items + np.concatenate([np.empty(0, np.int32), *truth])
    keys = np.arange(len(ranked), dtype=np.int64)[:, None] * num_items + ranked
    hits: BoolArray = np.isin(keys, wanted) & (ranked != NO_ITEM)
    return hits
