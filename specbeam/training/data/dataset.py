"""The neutral dataset: items with token paths, and interactions with a fixed split."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from specbeam.training.data.vocabulary import FIRST_CODE_TOKEN_ID, Level, vocab_size
from specbeam.training.errors import DatasetError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = ("train", "valid", "test")

Int32Array = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Items:
    """The catalogue, row i describing item number i.

    Attributes:
        item_ids: outside names, unique. N entries.
        paths: token ids of the semantic IDs. Two items may share one. Shape (N, L); (N, 0) while
            the items have no semantic IDs.
        titles: texts shown to people. N entries.
        topics: subjects, possibly none, per item. N entries.
        popularity: interactions in the train split. Shape (N,).
        created_at: Unix time in seconds, or None where unknown. N entries.
        texts: what semantic IDs are made from, besides titles; empty where there is none. N
            entries, or none at all.
        tags: names that requests filter by, such as "topic:Toys" or "brand:HP". N entries, or
            none at all: then an item's topics are its tags.
    """

    item_ids: tuple[str, ...]
    paths: Int32Array
    titles: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]
    popularity: Int32Array
    created_at: tuple[int | None, ...]
    texts: tuple[str, ...] = ()
    tags: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not self.texts:
            object.__setattr__(self, "texts", ("",) * len(self.item_ids))
        if not self.tags:
            named = tuple(tuple(f"topic:{topic}" for topic in topics) for topics in self.topics)
            object.__setattr__(self, "tags", named)

    def __len__(self) -> int:
        return len(self.item_ids)

    def tag_rows(self) -> dict[str, list[int]]:
        """Return the item numbers of each tag."""
        rows: dict[str, list[int]] = {}
        for number, tags in enumerate(self.tags):
            for tag in tags:
                rows.setdefault(tag, []).append(number)
        return rows

    def created_at_ms(self) -> npt.NDArray[np.int64] | None:
        """Return creation times in milliseconds, -1 where unknown; None where all are."""
        if not any(time is not None for time in self.created_at):
            return None
        times = [-1 if time is None else 1000 * time for time in self.created_at]
        return np.array(times, np.int64)


@dataclass(frozen=True, slots=True)
class Interactions:
    """All interactions, grouped by user, in arrival order within a user.

    Attributes:
        user_ids: outside names of the U users.
        user: user number per interaction. Shape (M,).
        item: item number per interaction. Shape (M,).
        time: Unix time in milliseconds, or a counter where the source has no times. Shape (M,).
        split: 0 train, 1 valid, 2 test. Shape (M,).
    """

    user_ids: tuple[str, ...]
    user: Int32Array
    item: Int32Array
    time: npt.NDArray[np.int64]
    split: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.user)


@dataclass(frozen=True)
class Dataset:
    """Items and interactions of one recommendation problem.

    Attributes:
        name: short name, used for the bundle.
        levels: token layout. L entries; none while the items have no semantic IDs.
        items: the catalogue.
        interactions: who took what, in which order.
        provenance: what the dataset was imported from and how; JSON values, kept in dataset.json.
    """

    name: str
    levels: tuple[Level, ...]
    items: Items
    interactions: Interactions
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_semantic_ids(self) -> bool:
        """Whether the items have token paths, without which nothing can be trained."""
        return bool(self.levels)

    @property
    def item_length(self) -> int:
        """Tokens per item, L."""
        return len(self.levels)

    @property
    def vocab_size(self) -> int:
        """Token ids in all, special tokens included."""
        return vocab_size(self.levels)

    @cached_property
    def _histories(self) -> dict[str, list[Int32Array]]:
        interactions = self.interactions
        num_users = len(interactions.user_ids)
        result: dict[str, list[Int32Array]] = {}
        for number, split in enumerate(SPLITS):
            rows = np.flatnonzero(interactions.split == number)
            order = rows[np.argsort(interactions.user[rows], kind="stable")]
            ends = np.cumsum(np.bincount(interactions.user[rows], minlength=num_users))
            result[split] = np.split(interactions.item[order], ends[:-1])
        return result

    def histories(self, split: Split) -> list[Int32Array]:
        """Return each user's item numbers in one split, oldest first. U arrays."""
        return self._histories[split]

    def counts(self) -> dict[str, int]:
        """Return the sizes that dataset.json and reports state."""
        split = np.bincount(self.interactions.split, minlength=len(SPLITS))
        distinct = len(np.unique(self.items.paths, axis=0)) if self.has_semantic_ids else 0
        return {
            "users": len(self.interactions.user_ids),
            "items": len(self.items),
            "semantic_ids": distinct,
            "train": int(split[0]),
            "valid": int(split[1]),
            "test": int(split[2]),
        }


def with_train_popularity(items: Items, interactions: Interactions) -> Items:
    """Return the items with popularity counted from the train split."""
    counts = np.bincount(interactions.item[interactions.split == 0], minlength=len(items))
    return replace(items, popularity=counts.astype(np.int32))


def check_dataset(dataset: Dataset) -> None:
    """Check what every consumer of a dataset relies on.

    Raises:
        DatasetError: listing everything that is wrong.
    """
    problems = [
        *_level_problems(dataset.levels),
        *_item_problems(dataset.items, dataset.levels),
        *_interaction_problems(dataset.interactions, len(dataset.items)),
    ]
    if problems:
        raise DatasetError(f"dataset {dataset.name}", problems)


def require_semantic_ids(dataset: Dataset, source: str) -> None:
    """Refuse a dataset whose items have no token paths.

    Args:
        dataset: what was read.
        source: where it was read from, for the message.

    Raises:
        DatasetError: it has none; the message names the command that makes them.
    """
    if not dataset.has_semantic_ids:
        advice = f"make them with: specbeam data semantic-ids {source}"
        raise DatasetError(source, [f"the items have no semantic IDs; {advice}"])


def _level_problems(levels: tuple[Level, ...]) -> list[str]:
    problems: list[str] = []
    expected = FIRST_CODE_TOKEN_ID
    for level in levels:
        if level.token_offset != expected or level.size < 1:
            problems.append(
                f"level {level.name}: offset {level.token_offset} and size {level.size}; "
                f"expected offset {expected} and a positive size"
            )
        expected = level.token_offset + level.size
    return problems


def _item_problems(items: Items, levels: tuple[Level, ...]) -> list[str]:
    problems: list[str] = []
    if not items.item_ids:
        return ["there are no items"]
    if items.paths.shape != (len(items), len(levels)):
        return [f"items have {items.paths.shape[-1]} tokens each, the levels say {len(levels)}"]
    seen: set[str] = set()
    for item_id in items.item_ids:
        if not item_id:
            problems.append("an item id is empty")
        if item_id in seen:
            problems.append(f"item id {item_id!r} appears twice")
        seen.add(item_id)
    if not len(items.texts) == len(items.tags) == len(items):
        problems.append("texts or tags are not one per item")
    low = np.array([level.token_offset for level in levels], np.int64)
    high = low + np.array([level.size for level in levels], np.int64)
    for row in np.flatnonzero(((items.paths < low) | (items.paths >= high)).any(axis=1)):
        path = items.paths[row].tolist()
        problems.append(f"item {items.item_ids[row]!r}: tokens {path} are outside their levels")
    return problems


def _interaction_problems(interactions: Interactions, num_items: int) -> list[str]:
    problems: list[str] = []
    if not (interactions.split == 0).any():
        problems.append("there are no train interactions")
    if (
        len(interactions)
        and not 0 <= interactions.item.min() <= interactions.item.max() < num_items
    ):
        problems.append("an interaction names an item that is not in the catalogue")
    if (interactions.split >= len(SPLITS)).any():
        problems.append(f"a split is not one of {', '.join(SPLITS)}")
    return problems
