"""The table of a co-occurrence drafter: for each item the items that stood near it most often."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from specbeam.bundle.drafters import DESCRIPTION
from specbeam.bundle.manifest import BundleError
from specbeam.catalog import CatalogError, ItemTrie
from specbeam.catalog.array_file import content_hash, load_arrays, save_arrays

KIND = "cooccurrence"
FILE = "neighbours.safetensors"
FORMAT = "specbeam-neighbours-1"
# What stands for a weight of 1.
WEIGHT_ONE = 65535


@dataclass(frozen=True, slots=True)
class NeighbourTable:
    """Neighbours of every item of a catalogue, in item indices of its trie.

    Attributes:
        offsets: item i has entries offsets[i] .. offsets[i + 1] - 1.  Shape (N + 1,), int64.
        items: the neighbours.  Shape (E,), int32.
        weights: their weights, `WEIGHT_ONE` standing for 1.  Shape (E,), uint16.
    """

    offsets: np.ndarray
    items: np.ndarray
    weights: np.ndarray

    def of(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the neighbours of some items, one item's after another's.

        Args:
            items: item indices.  Shape (n,).

        Returns:
            Place in `items` that each belongs to, neighbour, and weight in 0 .. 1.
        """
        begin, end = self.offsets[items], self.offsets[items + 1]
        sizes = end - begin
        entry = np.arange(int(sizes.sum())) + np.repeat(begin - (np.cumsum(sizes) - sizes), sizes)
        place = np.repeat(np.arange(len(items)), sizes)
        return place, self.items[entry], self.weights[entry] / float(WEIGHT_ONE)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by their names in the file."""
        return {"offsets": self.offsets, "items": self.items, "weights": self.weights}


def quantised(weights: np.ndarray) -> np.ndarray:
    """Return weights in 0 .. 1 in their stored form; none becomes 0.  Same shape, uint16."""
    stored: np.ndarray = np.maximum(np.rint(weights * WEIGHT_ONE), 1).astype(np.uint16)
    return stored


def save_neighbours(
    table: NeighbourTable, directory: Path, trie: ItemTrie, settings: Mapping[str, Any]
) -> None:
    """Write a drafter's folder.

    Args:
        table: what to write.
        directory: where; made if it is not there.
        trie: catalogue that the item indices belong to.
        settings: how the table was made, for drafter.json.
    """
    directory.mkdir(parents=True, exist_ok=True)
    arrays = table.arrays()
    metadata = {"format": FORMAT, "fingerprint": content_hash(arrays), "catalog": trie.fingerprint}
    save_arrays(directory / FILE, arrays, metadata)
    description = {"kind": KIND, "format": FORMAT, "catalog": trie.fingerprint, **settings}
    text = json.dumps(description, indent=2, sort_keys=True) + "\n"
    (directory / DESCRIPTION).write_text(text, encoding="utf-8")


def load_neighbours(directory: Path, trie: ItemTrie) -> NeighbourTable:
    """Map a table and compare it with its hash (about 0.2 s for a million items).

    Args:
        directory: the drafter's folder.
        trie: the catalogue it is to be used with.

    Raises:
        BundleError: missing, damaged, of another format or another catalogue.
    """
    where = f"drafters/{directory.name}/{FILE}"
    try:
        arrays, metadata = load_arrays(directory / FILE)
    except CatalogError as error:
        raise BundleError([f"drafters/{directory.name}/{text}" for text in error.problems]) from (
            error
        )
    if metadata.get("format") != FORMAT:
        raise BundleError([f"{where}: format is {metadata.get('format')!r}, not {FORMAT!r}"])
    if metadata.get("catalog") != trie.fingerprint:
        raise BundleError([f"{where} belongs to another catalogue: add the drafter again"])
    if content_hash(arrays) != metadata.get("fingerprint"):
        raise BundleError([f"{where}: content does not match its hash (damaged file)"])
    try:
        table = NeighbourTable(**arrays)
    except TypeError as error:
        raise BundleError([f"{where} has other arrays than a table: {error}"]) from error
    if problem := _problem(table, trie):
        raise BundleError([f"{where}: {problem}"])
    return table


def _problem(table: NeighbourTable, trie: ItemTrie) -> str | None:
    """Say what would make look-ups fail."""
    offsets, items = table.offsets, table.items
    if len(offsets) != trie.num_items + 1:
        return f"a table of {len(offsets) - 1:,} items for a catalogue of {trie.num_items:,}"
    if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] != len(items):
        return "its offsets do not fit its entries"
    if len(items) != len(table.weights) or (
        len(items) and not 0 <= items.min() <= items.max() < trie.num_items
    ):
        return "its entries name items that are not in the catalogue"
    return None
