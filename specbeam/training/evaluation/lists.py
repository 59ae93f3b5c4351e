"""What is recommended, whether right or not: coverage, popularity and length of the lists."""

import numpy as np
import numpy.typing as npt

from specbeam.training.evaluation.values import NO_ITEM

Int32Array = npt.NDArray[np.int32]
Float64Array = npt.NDArray[np.float64]

LIST_CUTOFFS = (10, 20)


def popularity_percentiles(popularity: Int32Array) -> Float64Array:
    """Return the share of items less popular than each item, equally popular ones counting half.

    Args:
        popularity: train interactions per item. Shape (N,).

    Returns:
        In 0 .. 1. Shape (N,).
    """
    ordered = np.sort(popularity)
    below = np.searchsorted(ordered, popularity, side="left")
    upto = np.searchsorted(ordered, popularity, side="right")
    return (below + upto) / 2.0 / len(popularity)


def list_figures(ranked: Int32Array, popularity: Int32Array) -> dict[str, float]:
    """Describe the lists of one ranker.

    Args:
        ranked: item numbers, best first, NO_ITEM at the end of shorter lists. Shape (U, K).
        popularity: train interactions per item. Shape (N,).

    Returns:
        For k of LIST_CUTOFFS "coverage@k", the share of the catalogue that is recommended to
        anyone; "popularity_percentile@k", the mean over all recommended items (0 for no items);
        "short_lists@k", the share of users with fewer than k items.
    """
    percentiles = popularity_percentiles(popularity)
    figures: dict[str, float] = {}
    for k in LIST_CUTOFFS:
        first = ranked[:, :k]
        items = first[first != NO_ITEM]
        figures[f"coverage@{k}"] = len(np.unique(items)) / len(popularity)
        mean = float(percentiles[items].mean()) if len(items) else 0.0
        figures[f"popularity_percentile@{k}"] = mean
        figures[f"short_lists@{k}"] = float((first == NO_ITEM).any(axis=1).mean())
    return figures
