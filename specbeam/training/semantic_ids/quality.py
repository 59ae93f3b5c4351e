"""Numbers that say how good a set of semantic IDs is before anything is trained on it."""

from typing import Any, Literal

import numpy as np

from specbeam.training.data.dataset import Dataset
from specbeam.training.semantic_ids.paths import Int32Array, Int64Array, prefix_numbers


def collision_counts(codes: Int32Array) -> dict[str, int]:
    """Count groups of items with equal paths, the items in them, and the largest group.

    Args:
        codes: shape (N, L).
    """
    sizes = np.bincount(prefix_numbers(codes)[-1])
    groups = sizes[sizes > 1]
    return {
        "groups": len(groups),
        "items": int(groups.sum()),
        "largest": int(groups.max(initial=1)),
    }


def level_usage(codes: Int32Array) -> list[dict[str, Any]]:
    """Return how evenly each level's codes are used.

    Perplexity is exp(entropy) of the code of a random item: the number of equally used codes that
    would be as uncertain.  `balance` divides it by the codes in use.

    Args:
        codes: shape (N, L).
    """
    usage: list[dict[str, Any]] = []
    for column in codes.T:
        counts = np.bincount(column)
        share = counts[counts > 0] / len(column)
        perplexity = float(np.exp(-(share * np.log(share)).sum()))
        usage.append(
            {
                "size": len(counts),
                "used": len(share),
                "perplexity": round(perplexity, 2),
                "balance": round(perplexity / len(share), 4),
                "largest_share": round(float(share.max()), 4),
            }
        )
    return usage


def prefix_tree(codes: Int32Array) -> list[dict[str, Any]]:
    """Describe the tree of prefixes, one entry per length 0 .. L - 1.

    Args:
        codes: shape (N, L).

    Returns:
        Prefixes of that length, and the p50, p90 and maximum of their distinct next codes.
    """
    tree: list[dict[str, Any]] = []
    parent: Int64Array = np.zeros(len(codes), np.int64)
    for length, prefix in enumerate(prefix_numbers(codes)):
        # One item stands for each distinct longer prefix.
        first = np.unique(prefix, return_index=True)[1]
        children = np.bincount(parent[first])
        p50, p90 = np.percentile(children, (50, 90))
        tree.append(
            {
                "length": length,
                "prefixes": len(children),
                "children_p50": float(p50),
                "children_p90": float(p90),
                "children_max": int(children.max()),
            }
        )
        parent = prefix
    return tree


def consecutive_pairs(
    dataset: Dataset, split: Literal["train", "valid"]
) -> tuple[Int32Array, Int32Array]:
    """Return different items that follow one another in a user's history.

    Args:
        dataset: with interactions.
        split: train: both items are of the train split. valid: the second one is of the valid
            split, and both occur in the train split; embeddings of co-occurrence have not seen
            these pairs, so they do not flatter them.

    Returns:
        The first and the second item of P pairs. Each of shape (P,).
    """
    histories = [dataset.histories("train")]
    if split == "valid":
        histories.append(dataset.histories("valid"))
    users = [np.concatenate(parts) for parts in zip(*histories, strict=True)]
    items = np.concatenate([*users, np.empty(0, np.int32)])
    user = np.repeat(np.arange(len(users)), [len(history) for history in users])
    left, right = items[:-1], items[1:]
    kept = (user[:-1] == user[1:]) & (left != right)
    if split == "valid":
        lengths = np.array([len(history) for history in histories[0]], np.int64)
        # Place of the right item in its user's history; those of train come first.
        place = np.arange(len(items)) - np.searchsorted(user, user)
        known = np.bincount(np.concatenate(histories[0]), minlength=len(dataset.items)) > 0
        kept &= (place >= lengths[user])[1:] & known[left] & known[right]
    return left[kept], right[kept]


def prefix_lift(
    codes: Int32Array, left: Int32Array, right: Int32Array
) -> list[dict[str, float | int]]:
    """Return how much more often consecutive items share a prefix than shuffled ones do.

    The shuffled rate is that of all pairs of one of the left and one of the right items, other
    than an item with itself, so it has no random error.

    Args:
        codes: shape (N, L).
        left: items of P pairs. Shape (P,).
        right: the items that follow, each different. Shape (P,).

    Returns:
        One entry per prefix length; none without pairs. A lift is left out where shuffled pairs
        never share the prefix.
    """
    if not len(left):
        return []
    itself = _equal_pairs(left, right)
    pairs = len(left) ** 2 - itself
    result: list[dict[str, float | int]] = []
    for length, prefix in enumerate(prefix_numbers(codes), start=1):
        shared = float(np.mean(prefix[left] == prefix[right]))
        shuffled = (_equal_pairs(prefix[left], prefix[right]) - itself) / pairs
        entry: dict[str, float | int] = {
            "length": length,
            "shared": round(shared, 6),
            "shuffled": round(shuffled, 6),
        }
        if shuffled > 0:
            entry["lift"] = round(shared / shuffled, 3)
        result.append(entry)
    return result


def _equal_pairs(left: Int32Array | Int64Array, right: Int32Array | Int64Array) -> int:
    """Count the pairs of an entry of `left` and an equal entry of `right`."""
    size = int(max(left.max(), right.max())) + 1
    return int(np.bincount(left, minlength=size) @ np.bincount(right, minlength=size))
