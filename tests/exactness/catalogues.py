"""Random catalogues of every shape: codes, paths of many lengths, titles, collisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from specbeam.catalog import ItemTrie, pad_paths
from specbeam.decoding.reference import HOUR_MS, CatalogItem, Path

FIRST_TOKEN = 3  # 0 = padding, 1 = BOS, 2 = EOS of the prompt
# Creation times lie within this many hours of EPOCH_MS.
EPOCH_MS = 480_000 * HOUR_MS
HOURS = 240
TAGS = ("all", "most", "half", "few", "rare", "one")
_TAG_SHARES = (1.0, 0.9, 0.5, 0.2, 0.05, 0.0)


Codebooks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Catalogue:
    """Items, and the vocabulary that they are written in.

    `codebooks` are the levels a manifest would declare, unused codes included; None where it would
    declare none.
    """

    kind: str
    items: dict[str, CatalogItem]
    vocab_size: int
    codebooks: Codebooks | None = None
    end_token: int | None = None

    @property
    def depth(self) -> int:
        return max(len(item.path) for item in self.items.values())

    def build_trie(self) -> ItemTrie:
        """The fast path's form of the same items, from rows in the order of `items`."""
        rows = list(self.items.values())
        end = () if self.end_token is None else (self.end_token,)
        paths = pad_paths([row.path[: len(row.path) - len(end)] for row in rows], ending=end)
        created = [-1 if row.created_at_ms is None else row.created_at_ms for row in rows]
        return ItemTrie.build(
            paths,
            list(self.items),
            np.array([row.popularity for row in rows]),
            tags={
                tag: [number for number, row in enumerate(rows) if tag in row.tags]
                for tag in TAGS
                if any(tag in row.tags for row in rows)
            },
            created_at_ms=np.array(created, np.int64),
        )


Maker = Callable[[np.random.Generator], Catalogue]


def codes(depth: int, *, shared: bool) -> Maker:
    """Semantic ids of `depth` codes; `shared` lets levels use one range of the vocabulary."""

    def make(rng: np.random.Generator) -> Catalogue:
        size = int(rng.integers(3, 20))
        offsets = _first(rng) + np.arange(depth) * (0 if shared else size)
        count = int(rng.integers(1, 250))
        paths = _skewed(rng, (count, depth), size) + offsets
        books = tuple(tuple(range(low, low + size)) for low in offsets.tolist())
        vocab = int(offsets[-1]) + size + int(rng.integers(1, 10))
        rows = paths.tolist()
        return _catalogue(rng, f"codes-{depth}", rows, vocab, _declared(rng, rows, vocab, books))

    return make


def wide_codes(rng: np.random.Generator) -> Catalogue:
    """More first codes than any beam holds, few below: the first level decides."""
    paths = np.stack([rng.integers(0, 90, 240), 90 + rng.integers(0, 3, 240)], 1) + FIRST_TOKEN
    books = (tuple(range(3, 93)), tuple(range(93, 96)))
    return _catalogue(rng, "wide", paths.tolist(), 96, books)


def ended(rng: np.random.Generator) -> Catalogue:
    """Paths of 1 .. 6 codes and an end token; a path may begin another one."""
    size, longest, first = int(rng.integers(2, 9)), int(rng.integers(1, 7)), _first(rng)
    end = first + size
    paths = [
        [*map(int, first + _skewed(rng, (int(length),), size)), end]
        for length in rng.integers(1, longest + 1, int(rng.integers(1, 200)))
    ]
    depth = max(map(len, paths))
    books = (tuple(range(first, end + 1)),) * depth
    vocab = end + 1 + int(rng.integers(1, 10))
    return _catalogue(rng, "ended", paths, vocab, _declared(rng, paths, vocab, books), end)


def ragged(rng: np.random.Generator) -> Catalogue:
    """Paths of many lengths without an end token, none of which begins another one."""
    size, longest, first = int(rng.integers(2, 9)), int(rng.integers(2, 7)), _first(rng)
    paths = _prefix_free(
        [
            tuple(map(int, first + _skewed(rng, (int(length),), size)))
            for length in rng.integers(1, longest + 1, int(rng.integers(1, 200)))
        ]
    )
    depth = max(map(len, paths))
    books = (tuple(range(first, first + size)),) * depth
    vocab = first + size + int(rng.integers(4, 10))
    return _catalogue(rng, "ragged", paths, vocab, _declared(rng, paths, vocab, books))


def titles(*, end_token: bool) -> Maker:
    """Titles of up to 40 words: shared beginnings, long tails without a choice."""

    def make(rng: np.random.Generator) -> Catalogue:
        words, longest = int(rng.integers(12, 40)), int(rng.integers(8, 40))
        end = FIRST_TOKEN + words
        paths: list[Path] = [()]
        for _ in range(int(rng.integers(2, 40))):
            beginning = paths[int(rng.integers(len(paths)))] if rng.random() < 0.7 else ()
            beginning = beginning[: int(rng.integers(0, len(beginning) + 1))]
            room = longest - len(beginning)
            # Now and then the whole title is another one's beginning, or another one again.
            ends = not room or (beginning and rng.random() < 0.2)
            length = 0 if ends else int(rng.integers(1, room + 1))
            tail = FIRST_TOKEN + rng.integers(0, words, length)
            paths.append((*beginning, *map(int, tail)))
        del paths[0]
        found = [(*path, end) for path in paths] if end_token else _prefix_free(paths)
        return _catalogue(rng, "titles", found, end + 1, None, end if end_token else None)

    return make


def series(rng: np.random.Generator) -> Catalogue:
    """Titles in volumes: many beginnings, a long tail without a choice, then a late choice."""
    length, volumes = int(rng.integers(4, 30)), FIRST_TOKEN + np.arange(4)
    paths = []
    for first in range(int(rng.integers(2, 16))):
        tail = rng.integers(20, 30, length).tolist()
        for volume in volumes[: int(rng.integers(1, 5))].tolist():
            paths.append([FIRST_TOKEN, 30 + first, *tail, volume])
    return _catalogue(rng, "titles", paths, 50, None)


def tiny(rng: np.random.Generator) -> Catalogue:
    """One to three items, perhaps on one path."""
    count, depth = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    paths = FIRST_TOKEN + rng.integers(0, 2, (count, depth))
    return _catalogue(rng, "tiny", paths.tolist(), 8, None)


MAKERS: tuple[Maker, ...] = (
    codes(1, shared=False),
    codes(2, shared=False),
    codes(3, shared=False),
    codes(3, shared=True),
    codes(4, shared=False),
    codes(4, shared=True),
    codes(5, shared=False),
    codes(6, shared=True),
    codes(6, shared=False),
    wide_codes,
    ended,
    ended,
    ragged,
    titles(end_token=True),
    titles(end_token=False),
    series,
    tiny,
)


def _catalogue(
    rng: np.random.Generator,
    kind: str,
    paths: Sequence[Sequence[int]],
    vocab_size: int,
    codebooks: Codebooks | None,
    end_token: int | None = None,
) -> Catalogue:
    """Give paths ids, popularities, tags and creation times."""
    count = len(paths)
    lone = int(rng.integers(count))
    ids = [f"{'item' if number % 7 else 'Ítem'}-{number}" for number in rng.permutation(count)]
    items = {
        item_id: CatalogItem(
            tuple(map(int, path)),
            int(rng.integers(0, 4)),
            frozenset(
                tag
                for tag, share in zip(TAGS, _TAG_SHARES, strict=True)
                if rng.random() < share or (tag == "one" and row == lone)
            ),
            _creation_time(rng),
        )
        for row, (item_id, path) in enumerate(zip(ids, paths, strict=True))
    }
    return Catalogue(kind, items, vocab_size, codebooks, end_token)


def _creation_time(rng: np.random.Generator) -> int | None:
    """Unknown, on the hour, or some time within it."""
    if rng.random() < 0.15:
        return None
    hour = EPOCH_MS + int(rng.integers(HOURS)) * HOUR_MS
    return hour + int(rng.choice([0, 0, 1, HOUR_MS - 1, int(rng.integers(HOUR_MS))]))


def _skewed(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> np.ndarray:
    """Skewed codes give crowded and thin branches in one trie, and several items on a leaf."""
    raw = rng.integers(0, size, shape) * rng.random(shape) ** 0.5
    return raw.astype(np.int64)


def _prefix_free(paths: Sequence[Path]) -> list[Path]:
    """Without the paths that begin another one; equal ones stay.  In a random order they came."""
    distinct = sorted(set(paths))
    beginnings = {a for a, b in pairwise(distinct) if b[: len(a)] == a}
    return [path for path in paths if path not in beginnings]


def _first(rng: np.random.Generator) -> int:
    """The smallest token of an item: 0 is a token like any other."""
    return int(rng.choice([0, FIRST_TOKEN, FIRST_TOKEN]))


def _declared(
    rng: np.random.Generator, paths: Sequence[Sequence[int]], vocab_size: int, books: Codebooks
) -> Codebooks | None:
    """The codebooks of a manifest: `books`, scattered ones that hold what is used, or none."""
    kind = rng.choice(["natural", "scattered", "none"], p=[0.5, 0.25, 0.25])
    if kind == "none":
        return None
    if kind == "natural":
        return books
    used = [{path[level] for path in paths if level < len(path)} for level in range(len(books))]
    return tuple(
        tuple(sorted(tokens | {t for t in range(vocab_size) if rng.random() < 0.3}))
        for tokens in used
    )
