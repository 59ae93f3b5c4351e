"""The table of the co-occurrence drafter, counted from train histories.

The counts are not divided by the popularity of the neighbour, as recommenders do: the drafter mixes
them with popularity and is judged by what the target keeps, which is popular.  On validation users
of two targets plain counts found more of their second-level beams than cosine weights did, at every
weight of the prior.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.bundle import Bundle
from specbeam.bundle.neighbours import NeighbourTable, quantised, save_neighbours
from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.sparse import CsrMatrix, add_up, keep_largest
from specbeam.training.progress import Reporter

Int64Array = npt.NDArray[np.int64]

# Events whose pairs are counted at once: some 5 million pairs, a few hundred MB.
BLOCK_EVENTS = 500_000


@dataclass(frozen=True, slots=True)
class CooccurrenceSettings:
    """How neighbours are counted.

    Attributes:
        neighbours: most neighbours kept per item.
        window: largest distance of two events of a pair; a pair counts 1 / distance.
        half_evidence: pairs of an item at which its neighbours have half the weight that any number
            of pairs could give them.
    """

    neighbours: int = 32
    window: int = 5
    half_evidence: float = 200.0


DEFAULT_SETTINGS = CooccurrenceSettings()


@dataclass(frozen=True, slots=True)
class _Events:
    """Train interactions, users one after another and oldest first.

    Attributes:
        user: user number. Shape (M,).
        item: item index of the trie. Shape (M,).
    """

    user: npt.NDArray[np.int32]
    item: npt.NDArray[np.int32]


def add_to_bundle(
    bundle: Bundle, dataset: Dataset, directory: Path, reporter: Reporter
) -> Mapping[str, Any]:
    """Build the drafter for `specbeam bundle add-drafter`; see `build_cooccurrence`."""

    def tell(share: float) -> None:
        reporter.update("counting", share, "pairs")

    return build_cooccurrence(dataset, bundle.trie, directory, on_progress=tell)


def build_cooccurrence(
    dataset: Dataset,
    trie: ItemTrie,
    directory: Path,
    settings: CooccurrenceSettings = DEFAULT_SETTINGS,
    on_progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Count neighbours in the train split and write the drafter's folder.

    Args:
        dataset: histories.
        trie: catalogue of the bundle; it may have items that the dataset has not.
        directory: where; made if it is not there.
        settings: how to count.
        on_progress: told the share that is done.

    Returns:
        What was counted, for reports.

    Raises:
        TrainingError: the catalogue lacks items of the dataset.
    """
    events = _train_events(dataset, trie)
    parts: list[CsrMatrix] = []
    for low, high, chosen in _blocks(events.item, trie.num_items):
        counts = _near_counts(events, chosen, low, (high - low, trie.num_items), settings.window)
        parts.append(_weighted(counts, settings))
        on_progress(high / trie.num_items)
    sizes = np.concatenate([np.diff(part.indptr) for part in parts])
    table = NeighbourTable(
        offsets=np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
        items=np.concatenate([part.indices for part in parts]).astype(np.int32),
        weights=np.concatenate([quantised(part.data) for part in parts]),
    )
    save_neighbours(table, directory, trie, asdict(settings))
    return {
        **asdict(settings),
        "events": len(events.item),
        "entries": len(table.items),
        "items_with_neighbours": int((sizes > 0).sum()),
    }


def _train_events(dataset: Dataset, trie: ItemTrie) -> _Events:
    """Return the train split in item indices of the trie.

    Raises:
        TrainingError: an item is not in the trie.
    """
    index = trie.index_of(dataset.items.item_ids)
    missing = int((index < 0).sum())
    if missing:
        raise TrainingError(
            f"{missing:,} of {len(index):,} items of dataset {dataset.name} are not in the bundle"
        )
    log = dataset.interactions
    rows = np.flatnonzero(log.split == 0)
    rows = rows[np.argsort(log.user[rows], kind="stable")]
    return _Events(log.user[rows], index[log.item[rows]])


def _blocks(item: npt.NDArray[np.int32], num_items: int) -> Iterator[tuple[int, int, Int64Array]]:
    """Yield ranges of items with about `BLOCK_EVENTS` events, and these events.

    An item is never divided, so a block may be as large as the events of the most popular item.
    """
    order = np.argsort(item, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(item, minlength=num_items))])
    low = 0
    while low < num_items:
        reached = int(np.searchsorted(ends, ends[low] + BLOCK_EVENTS, side="right")) - 1
        high = min(max(reached, low + 1), num_items)
        yield low, high, order[ends[low] : ends[high]]
        low = high


def _near_counts(
    events: _Events, chosen: Int64Array, low: int, shape: tuple[int, int], window: int
) -> CsrMatrix:
    """Count what stands near some events in the same history.

    Args:
        events: all of them.
        chosen: event numbers.
        low: item of row 0.
        shape: of the answer.
        window: largest distance.

    Returns:
        Sums of 1 / distance, an item never beside itself; indices ascending.
    """
    rows, columns, values = [], [], []
    for offset in (*range(-window, 0), *range(1, window + 1)):
        other = chosen + offset
        inside = (other >= 0) & (other < len(events.item))
        one, two = chosen[inside], other[inside]
        pair = (events.user[one] == events.user[two]) & (events.item[one] != events.item[two])
        rows.append(events.item[one[pair]] - low)
        columns.append(events.item[two[pair]])
        values.append(np.full(len(rows[-1]), 1.0 / abs(offset)))
    counts = add_up(np.concatenate(rows), np.concatenate(columns), np.concatenate(values), shape)
    counts.sort_indices()
    return counts


def _weighted(counts: CsrMatrix, settings: CooccurrenceSettings) -> CsrMatrix:
    """Keep the strongest neighbours, weighted by their share of the item's pairs.

    The fewer pairs an item has, the less all its neighbours weigh.
    """
    evidence = np.asarray(counts.sum(axis=1)).ravel()
    kept = keep_largest(counts, settings.neighbours)
    per_entry = np.repeat(evidence, np.diff(kept.indptr))
    kept.data = kept.data / (per_entry + settings.half_evidence)
    return kept
