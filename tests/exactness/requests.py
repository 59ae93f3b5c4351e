"""Random requests: prompts, sizes and filters of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from specbeam.decoding.reference import HOUR_MS, CatalogItem, PlainFilter
from tests.exactness.catalogues import EPOCH_MS, FIRST_TOKEN, HOURS, Catalogue

FILTER_KINDS = ("exclude", "history", "allow", "tags", "fresh")
FILTER_COMBINATIONS: tuple[frozenset[str], ...] = tuple(
    frozenset(some) for n in range(len(FILTER_KINDS) + 1) for some in combinations(FILTER_KINDS, n)
)
BOS = 1


@dataclass(frozen=True)
class Prompt:
    """What a search continues, and the items it names."""

    tokens: tuple[int, ...]
    history: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        kinds: the filters set, of `FILTER_KINDS`.
        item_filter: what they say together.
        admitted: the items they leave.
    """

    prompt: Prompt
    num_items: int
    beam_width: int
    kinds: frozenset[str]
    item_filter: PlainFilter
    admitted: frozenset[str]


def random_prompt(rng: np.random.Generator, catalogue: Catalogue, longest: int = 24) -> Prompt:
    """BOS and the paths of a few items, or any tokens."""
    history: tuple[str, ...] = ()
    if rng.random() < 0.7:
        history = tuple(str(i) for i in rng.choice(list(catalogue.items), int(rng.integers(1, 6))))
        tokens = [token for item in history for token in catalogue.items[item].path]
    else:
        tokens = rng.integers(
            FIRST_TOKEN, catalogue.vocab_size, int(rng.integers(0, longest))
        ).tolist()
    # Only the newest tokens fit, as with a window.
    return Prompt((BOS, *tokens[-longest:]), history)


def random_request(
    rng: np.random.Generator, catalogue: Catalogue, prompt: Prompt, kinds: frozenset[str]
) -> Request:
    """A request with filters of exactly the given kinds."""
    small = catalogue.kind in ("titles", "tiny")
    # Narrow beams miss more, and cut more.
    num_items = int(rng.choice([1, 2, 3, 5, 10] if small else [1, 2, 2, 3, 3, 5, 5, 10, 20, 50]))
    width = num_items + int(rng.choice([0, 0, 1, 5] if small else [0, 0, 1, 5, 20]))
    item_filter = _random_filter(rng, catalogue, prompt, kinds, num_items)
    admitted = admitted_items(catalogue.items, item_filter)
    return Request(prompt, num_items, width, kinds, item_filter, frozenset(admitted))


def admitted_items(items: dict[str, CatalogItem], item_filter: PlainFilter) -> list[str]:
    return [item_id for item_id, item in items.items() if item_filter.admits(item_id, item)]


def _random_filter(
    rng: np.random.Generator,
    catalogue: Catalogue,
    prompt: Prompt,
    kinds: frozenset[str],
    num_items: int,
) -> PlainFilter:
    found = PlainFilter()
    if "tags" in kinds:
        found = replace(found, required_tags=_random_clauses(rng, catalogue))
    if "fresh" in kinds:
        # Mostly early, so that something is left for the other conditions.
        hour = EPOCH_MS + (int(rng.random() ** 3 * (HOURS + 4)) - 2) * HOUR_MS
        found = replace(found, created_after_ms=hour + int(rng.choice([-1, 0, 0, 1])))
    if "history" in kinds:
        found = replace(found, excluded=frozenset(prompt.history))
    # The two lists can leave any number of what the others leave.
    left = admitted_items(catalogue.items, found)
    if "exclude" in kinds:
        kept = set(_some(rng, left, num_items))
        known = set(left)
        gone = {i for i in catalogue.items if i not in kept and (i in known or rng.random() < 0.5)}
        found = replace(found, excluded=frozenset({*found.excluded, *gone}))
        left = [item for item in left if item in kept]
    if "allow" in kinds:
        kept = set(_some(rng, left, num_items))
        extra = {i for i in catalogue.items if i not in left and rng.random() < 0.2}
        found = replace(found, allowed=frozenset(kept | extra))
    return found


def _some(rng: np.random.Generator, items: Sequence[str], num_items: int) -> list[str]:
    """None, one, K - 1, a few, or most of `items`."""
    count = int(
        rng.choice(
            [0, 1, num_items - 1, num_items, len(items) // 10, len(items) // 2, len(items)],
            p=[0.03, 0.05, 0.12, 0.1, 0.15, 0.35, 0.2],
        )
    )
    return [items[int(n)] for n in rng.permutation(len(items))[:count]]


def _random_clauses(rng: np.random.Generator, catalogue: Catalogue) -> tuple[tuple[str, ...], ...]:
    """An AND of ORs; tags that no item carries are unknown to the catalogue and left out."""
    known = sorted({tag for item in catalogue.items.values() for tag in item.tags})
    return tuple(
        tuple(str(tag) for tag in rng.choice(known, int(rng.integers(1, 4))))
        for _ in range(int(rng.choice([1, 1, 2, 3])))
    )
