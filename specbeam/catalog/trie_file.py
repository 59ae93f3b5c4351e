"""The arrays of a trie, and the one file they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from specbeam.catalog.array_file import content_hash, load_arrays, save_arrays
from specbeam.catalog.build import Built
from specbeam.catalog.columns import Ranges, load_ranges, load_tokens
from specbeam.catalog.errors import CatalogError
from specbeam.catalog.item_ids import ItemIds
from specbeam.catalog.trie import ItemTrie, TrieLevel

FORMAT = "specbeam-trie-2"
_FORMER_FORMATS = ("specbeam-trie-1",)

Arrays = dict[str, np.ndarray]


def arrays_of(built: Built) -> Arrays:
    """Return every array of a catalogue by its name in the file."""
    arrays: Arrays = {
        "num_nodes": np.array([level.count for level in built.levels], np.int64),
        "max_children": np.array([level.max_children for level in built.levels], np.int64),
        "popularity": built.popularity,
        "id_text": built.ids.text,
        "id_offsets": built.ids.offsets,
        **_named("leaf_items", built.leaf_items.arrays()),
    }
    for d, level in enumerate(built.levels):
        if level.tokens is not None:
            arrays |= _named(f"token_{d}", level.tokens.arrays())
        if level.first_child is not None:
            arrays |= _named(f"first_child_{d}", level.first_child.arrays())
        if level.first_leaf is not None:
            arrays |= _named(f"first_leaf_{d}", level.first_leaf.arrays())
    if built.tags:
        names = "\n".join(built.tags).encode()
        arrays["tag_names"] = np.frombuffer(names, np.uint8)
        ends = np.cumsum([0, *map(len, built.tags.values())])
        arrays["tag_offsets"] = ends.astype(np.int64)
        arrays["tag_items"] = np.concatenate(list(built.tags.values())).astype(np.int32)
    if built.created_bucket is not None:
        arrays["created_bucket"] = built.created_bucket
    return arrays


def _named(prefix: str, arrays: Arrays) -> Arrays:
    return {prefix + suffix: array for suffix, array in arrays.items()}


def fingerprint_of(arrays: Arrays) -> str:
    """Return the content hash of a catalogue."""
    return content_hash(arrays)


def trie_of(arrays: Arrays, fingerprint: str) -> ItemTrie:
    """Return the trie over arrays of a file or of `arrays_of`.

    Raises:
        KeyError: an array is missing.
    """
    counts, widest = arrays["num_nodes"].tolist(), arrays["max_children"].tolist()
    depth = len(counts) - 1
    levels = []
    for d, count in enumerate(counts):
        children = load_ranges(arrays, f"first_child_{d}", count) if d < depth else None
        # On the last level but one, children are leaves.
        leaves = load_ranges(arrays, f"first_leaf_{d}", count) if d < depth - 1 else children
        tokens = load_tokens(arrays, f"token_{d}", count) if d else None
        levels.append(TrieLevel(count, widest[d], tokens, children, leaves))
    return ItemTrie(
        levels=tuple(levels),
        popularity=arrays["popularity"],
        fingerprint=fingerprint,
        tags=_tags(arrays),
        created_bucket=arrays.get("created_bucket"),
        _leaf_items=_leaf_items(arrays, counts[-1]),
        _ids=ItemIds(arrays["id_text"], arrays["id_offsets"]),
        _arrays=arrays,
    )


def _leaf_items(arrays: Arrays, leaves: int) -> Ranges:
    return load_ranges(arrays, "leaf_items", leaves)


def _tags(arrays: Arrays) -> dict[str, np.ndarray]:
    if "tag_names" not in arrays:
        return {}
    names = bytes(arrays["tag_names"]).decode().split("\n")
    ends, items = arrays["tag_offsets"], arrays["tag_items"]
    return {name: items[ends[n] : ends[n + 1]] for n, name in enumerate(names)}


def save_trie(trie: ItemTrie, path: Path) -> None:
    """Write a trie to one file with its content hash."""
    save_arrays(path, trie._arrays, {"format": FORMAT, "fingerprint": trie.fingerprint})


def load_trie(path: Path, *, verify: bool) -> ItemTrie:
    """Map a saved trie; see `ItemTrie.load`."""
    arrays, metadata = load_arrays(path)
    found = metadata.get("format")
    if found in _FORMER_FORMATS:
        raise CatalogError(
            [f"{path.name}: format {found} is of an older release; make the catalogue again"]
        )
    if found != FORMAT:
        raise CatalogError([f"{path.name}: format is {found!r}, not {FORMAT!r}"])
    fingerprint = metadata.get("fingerprint", "")
    if verify and content_hash(arrays) != fingerprint:
        raise CatalogError([f"{path.name}: content does not match its hash (damaged file)"])
    try:
        return trie_of(arrays, fingerprint)
    except KeyError as error:
        raise CatalogError([f"{path.name}: array {error} is missing"]) from error
