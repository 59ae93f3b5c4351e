"""Something to show before the search is over: popular items below the exact beams of level 1."""

import numpy as np

from orchestrator.filtering import RequestFilter
from orchestrator.ports import BeamPaths
from specbeam.catalog import ItemTrie

# Items looked at for one preview; where there are more, an even part of the worst beams is.
MAX_LOOKED_AT = 16_384


def items_below(trie: ItemTrie, beams: BeamPaths) -> tuple[np.ndarray, np.ndarray]:
    """Return the first item below each beam, and how many there are.

    Args:
        trie: The catalogue.
        beams: Beams of a level >= 1; one that is not in the catalogue has no items.

    Returns:
        Two arrays of shape (W',), int64.
    """
    nodes = trie.find(beams.tokens)
    known = np.maximum(nodes, 0)
    level = trie.levels[beams.level]
    first = np.asarray(trie.first_item_of(level.first_leaf_of(known)), np.int64)
    last = np.asarray(trie.first_item_of(level.first_leaf_of(known + 1)), np.int64)
    return first, np.where(nodes < 0, 0, last - first)


def best_first(beams: BeamPaths) -> np.ndarray:
    """Return the places of beams by score descending, then path ascending.  Shape (W',)."""
    return np.argsort(-beams.scores, kind="stable")


def guess_items(
    trie: ItemTrie, beams: BeamPaths, chosen: RequestFilter, num_items: int
) -> np.ndarray:
    """Return popular items below beams, best first: a guess, no part of the answer.

    A beam's probability is shared among the items below it that may be returned, by their
    popularity.

    Args:
        trie: The catalogue.
        beams: Exact beams of a level >= 1.
        chosen: Which items may be returned.
        num_items: Most items.

    Returns:
        Item indices, shape (n,), int64.
    """
    order = best_first(beams)
    first, sizes = (part[order] for part in items_below(trie, beams))
    items, row = _look_at(first, sizes)
    if chosen.allowed is not None and len(items):
        passes = chosen.allowed(items)
        items, row = items[passes], row[passes]
    if not len(items):
        return items
    # An item nobody has met yet may be returned, too.
    popularity = trie.popularity[items] + 1.0
    of_beam = np.bincount(row, popularity, len(beams))
    probability = np.exp(beams.scores[order] - beams.scores.max())
    weight = probability[row] * popularity / of_beam[row]
    place = max(0, len(weight) - num_items)
    heavy = np.flatnonzero(weight >= np.partition(weight, place)[place])
    guesses: np.ndarray = items[heavy[np.lexsort((items[heavy], -weight[heavy]))[:num_items]]]
    return guesses


def _look_at(first: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return items below beams (best first) and the place of each one's beam.  Shapes (n,)."""
    taken = np.clip(MAX_LOOKED_AT - (np.cumsum(sizes) - sizes), 0, sizes)
    row = np.repeat(np.arange(len(sizes)), taken)
    place = np.arange(len(row)) - np.repeat(np.cumsum(taken) - taken, taken)
    return first[row] + place * sizes[row] // np.maximum(taken[row], 1), row
