"""From item paths to the arrays of a trie: checks, sorting, levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from specbeam.catalog.columns import PAD, Ranges, TokenColumn, make_ranges, make_tokens
from specbeam.catalog.errors import CatalogError
from specbeam.catalog.item_ids import ItemIds

MAX_DEPTH = 64
FRESHNESS_BUCKET_MS = 3_600_000
_MAX_ITEMS = 2**31 - 2
_MAX_TOKEN = 2**31 - 2
_SHOWN = 20
_MAX_TAG_BYTES = 256


@dataclass(frozen=True, slots=True)
class BuiltLevel:
    """Columns of one level; the last level has no children, the root no tokens."""

    count: int
    tokens: TokenColumn | None
    first_child: Ranges | None
    first_leaf: Ranges | None
    max_children: int


@dataclass(frozen=True, slots=True)
class Built:
    """What `ItemTrie` is made of; item columns are in trie order."""

    levels: list[BuiltLevel]
    leaf_items: Ranges
    ids: ItemIds
    popularity: np.ndarray
    tags: dict[str, np.ndarray]
    created_bucket: np.ndarray | None


def pad_paths(paths: Sequence[Sequence[int]], ending: Sequence[int] = ()) -> np.ndarray:
    """Return token paths of different lengths as one array.

    Args:
        paths: token path of each item.
        ending: end tokens, appended to every path; paths of different lengths need one unless
            none is a prefix of another.

    Returns:
        Shape (N, L), int64; `PAD` behind the end of shorter paths.
    """
    longest = max((len(path) for path in paths), default=0) + len(ending)
    padded = np.full((len(paths), longest), PAD, np.int64)
    for row, path in enumerate(paths):
        padded[row, : len(path) + len(ending)] = [*path, *ending]
    return padded


def build_columns(
    paths: np.ndarray,
    item_ids: Sequence[str],
    popularity: np.ndarray | None,
    tags: Mapping[str, Sequence[int] | np.ndarray] | None,
    created_at_ms: np.ndarray | None,
) -> Built:
    """Build every column; see `ItemTrie.build`.

    Raises:
        CatalogError: naming every problem found.
    """
    counts = np.zeros(len(item_ids), np.int32) if popularity is None else np.asarray(popularity)
    paths = np.asarray(paths)
    problems = _shape_problems(paths, item_ids, counts, created_at_ms)
    if problems:
        raise CatalogError(problems)
    ids = ItemIds.of(item_ids)
    problems = _item_problems(paths, item_ids, ids) + _tag_problems(tags or {}, len(item_ids))
    if problems:
        raise CatalogError(problems)
    order = _sorted_rows(paths)
    order = _rank_equal_paths(paths, order, counts, item_ids)
    ordered = paths[order].astype(np.int32)
    levels, leaf_items = _levels(ordered)
    problems = _prefix_problems(levels, leaf_items, order, item_ids)
    if problems:
        raise CatalogError(problems)
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    tagged = {name: np.unique(place[np.asarray(rows)]) for name, rows in (tags or {}).items()}
    created = None
    if created_at_ms is not None:
        times = np.asarray(created_at_ms, np.int64)[order]
        created = np.where(times < 0, -1, times // FRESHNESS_BUCKET_MS).astype(np.int32)
    return Built(
        levels,
        leaf_items,
        ids.take(order),
        counts[order].astype(np.int32),
        {name: tagged[name] for name in sorted(tagged)},
        created,
    )


# ---- checks -----------------------------------------------------------------------------------


def _shape_problems(
    paths: np.ndarray,
    item_ids: Sequence[str],
    counts: np.ndarray,
    created_at_ms: np.ndarray | None,
) -> list[str]:
    if paths.ndim != 2 or not np.issubdtype(paths.dtype, np.integer):
        return [f"paths must be integers of shape (N, L), got {paths.dtype} {paths.shape}"]
    problems = []
    if not 1 <= len(paths) <= _MAX_ITEMS:
        problems.append(f"a catalogue needs 1 .. {_MAX_ITEMS:,} items, got {len(paths):,}")
    if not 1 <= paths.shape[1] <= MAX_DEPTH:
        problems.append(f"paths have {paths.shape[1]} tokens; 1 .. {MAX_DEPTH} are supported")
    if len(item_ids) != len(paths) or len(counts) != len(paths):
        problems.append(f"{len(paths)} paths, {len(item_ids)} ids and {len(counts)} popularities")
    if created_at_ms is not None and len(created_at_ms) != len(paths):
        problems.append(f"{len(paths)} paths and {len(created_at_ms)} creation times")
    return problems


def _item_problems(paths: np.ndarray, item_ids: Sequence[str], ids: ItemIds) -> list[str]:
    empty = np.flatnonzero(np.diff(ids.offsets) == 0)
    problems = [f"item number {row} has an empty id" for row in empty[:_SHOWN]]
    if not len(empty):
        problems += [f"item id {name!r} appears more than once" for name in ids.duplicates()]
    bad = {
        "has no tokens": paths[:, 0] == PAD,
        "has a negative token": (paths < PAD).any(axis=1),
        f"has a token above {_MAX_TOKEN}": (paths > _MAX_TOKEN).any(axis=1),
        "has padding before a token": ((paths[:, :-1] == PAD) & (paths[:, 1:] != PAD)).any(axis=1),
    }
    for what, rows in bad.items():
        problems += [f"item {item_ids[row]!r} {what}" for row in np.flatnonzero(rows)[:_SHOWN]]
    return problems


def _tag_problems(tags: Mapping[str, Sequence[int] | np.ndarray], items: int) -> list[str]:
    problems = []
    for name, rows in tags.items():
        numbers = np.asarray(rows)
        if not name or len(name.encode()) > _MAX_TAG_BYTES or "\n" in name:
            problems.append(f"tag {name!r} must have 1 .. {_MAX_TAG_BYTES} bytes and no line break")
        if numbers.size and not np.issubdtype(numbers.dtype, np.integer):
            problems.append(f"tag {name!r} needs row numbers, got {numbers.dtype}")
        elif numbers.size and (numbers.min() < 0 or numbers.max() >= items):
            problems.append(f"tag {name!r} names rows outside 0 .. {items - 1}")
        elif not numbers.size:
            problems.append(f"tag {name!r} is on no item")
    return problems


def _prefix_problems(
    levels: list[BuiltLevel], leaf_items: Ranges, order: np.ndarray, item_ids: Sequence[str]
) -> list[str]:
    """Items whose path is the beginning of another's: they could never end."""
    problems: list[str] = []
    for d, level in enumerate(levels[:-1]):
        tokens = levels[d + 1].tokens
        if tokens is None or not tokens.has_padding or level.first_child is None:
            continue
        first = level.first_child.start(np.arange(level.count + 1))
        forks = np.flatnonzero(np.diff(first) > 1)
        short = forks[tokens.at(first[forks]) == PAD]
        below = levels[d + 1].first_leaf
        for node in short[: _SHOWN - len(problems)]:
            leaves = first[node] + np.arange(2)
            leaves = leaves if below is None else below.start(leaves)
            one, other = (item_ids[order[leaf_items.start(leaf)]] for leaf in leaves)
            problems.append(
                f"the path of item {one!r} is the beginning of the path of {other!r}; "
                "add an end token"
            )
    return problems


# ---- sorting ----------------------------------------------------------------------------------


def _sorted_rows(paths: np.ndarray) -> np.ndarray:
    """Return row numbers in path order, packing columns into as few 64-bit keys as possible."""
    words: list[np.ndarray] = []
    used = 64
    for column in paths.T:
        low = int(column.min())
        bits = (int(column.max()) - low).bit_length()
        if bits == 0:
            continue
        codes = (column - low).astype(np.uint64)
        if used + bits > 64:
            words.append(codes)
            used = bits
        else:
            words[-1] = (words[-1] << np.uint64(bits)) | codes
            used += bits
    if not words:
        return np.arange(len(paths))
    return np.argsort(words[0]) if len(words) == 1 else np.lexsort(words[::-1])


def _rank_equal_paths(
    paths: np.ndarray, order: np.ndarray, counts: np.ndarray, item_ids: Sequence[str]
) -> np.ndarray:
    """Put items of one path in order of popularity (descending), then id."""
    equal = np.ones(len(order) - 1, bool)
    for column in paths.T:
        ordered = column[order]
        equal &= ordered[1:] == ordered[:-1]
    starts = np.flatnonzero(np.append(True, ~equal))
    sizes = np.diff(np.append(starts, len(order)))
    for group in np.flatnonzero(sizes > 1):
        begin = starts[group]
        rows = order[begin : begin + sizes[group]].tolist()
        rows.sort(key=lambda row: (-int(counts[row]), item_ids[row]))
        order[begin : begin + sizes[group]] = rows
    return order


# ---- levels -----------------------------------------------------------------------------------


def _levels(paths: np.ndarray) -> tuple[list[BuiltLevel], Ranges]:
    """Return the levels of sorted paths and the items of each leaf."""
    rows, depth = paths.shape
    begins = _node_begins(paths)
    leaf_of_row = _ranks(begins[-1], rows)
    levels: list[BuiltLevel] = []
    for d, begin in enumerate(begins):
        tokens = None if d == 0 else make_tokens(paths[begin, d - 1])
        if d == depth:
            levels.append(BuiltLevel(len(begin), tokens, None, None, 0))
            break
        below = _ranks(begins[d + 1], rows)[begin]
        starts = np.append(below, np.int32(len(begins[d + 1])))
        leaves = None if d == depth - 1 else np.append(leaf_of_row[begin], len(begins[-1]))
        levels.append(
            BuiltLevel(
                len(begin),
                tokens,
                make_ranges(starts),
                None if leaves is None else make_ranges(leaves),
                int(np.diff(starts).max()),
            )
        )
    return levels, make_ranges(np.append(begins[-1], rows))


def _node_begins(paths: np.ndarray) -> list[np.ndarray]:
    """Return, per level 0 .. L, the first row of each node in the sorted paths."""
    changed = np.zeros(len(paths), bool)
    changed[0] = True
    begins = [np.zeros(1, np.int32)]
    for d in range(paths.shape[1]):
        changed[1:] |= paths[1:, d] != paths[:-1, d]
        begins.append(np.flatnonzero(changed).astype(np.int32))
    return begins


def _ranks(begins: np.ndarray, rows: int) -> np.ndarray:
    """Return the node that holds each row, from the first row of each node."""
    marks = np.zeros(rows, np.int32)
    marks[begins] = 1
    return np.cumsum(marks, dtype=np.int32) - 1
