"""What a dataset looks like: sizes, lengths, splits."""

from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import SPLITS, Dataset


def dataset_statistics(dataset: Dataset) -> dict[str, Any]:
    """Return figures of a dataset, as JSON values.

    `density` is the share of all (user, item) pairs that are an interaction, `per_user` holds
    percentiles of the interactions per user, and `unseen` means without a train interaction.
    """
    interactions = dataset.interactions
    num_users, num_items = len(interactions.user_ids), len(dataset.items)
    lengths = np.bincount(interactions.user, minlength=num_users)
    trained = np.bincount(interactions.item[interactions.split == 0], minlength=num_items) > 0
    learned = np.bincount(interactions.user[interactions.split == 0], minlength=num_users) > 0
    return {
        "users": num_users,
        "items": num_items,
        "interactions": len(interactions),
        "density": len(interactions) / max(1, num_users * num_items),
        "per_user": _percentiles(lengths),
        "splits": {
            name: _split(dataset, interactions.split == number, trained)
            for number, name in enumerate(SPLITS)
        },
        "users_without_train": int((~learned).sum()),
        "items_unseen_in_train": int((~trained).sum()),
        "items_with_text": sum(map(bool, dataset.items.texts)),
        "has_semantic_ids": dataset.has_semantic_ids,
        "semantic_ids": dataset.counts()["semantic_ids"],
    }


def _split(
    dataset: Dataset, mask: npt.NDArray[np.bool_], trained: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    interactions = dataset.interactions
    item, time = interactions.item[mask], interactions.time[mask]
    return {
        "interactions": len(item),
        "users": len(np.unique(interactions.user[mask])),
        "items": len(np.unique(item)),
        "on_unseen_items": int((~trained[item]).sum()),
        "first_time_ms": int(time.min()) if len(time) else None,
        "last_time_ms": int(time.max()) if len(time) else None,
    }


def _percentiles(lengths: npt.NDArray[np.int64]) -> dict[str, int]:
    if not len(lengths):
        return {}
    at = np.percentile(lengths, [50, 90, 99, 100], method="inverted_cdf").astype(int)
    return dict(zip(("p50", "p90", "p99", "max"), at.tolist(), strict=True))
