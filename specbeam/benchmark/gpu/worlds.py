"""What is searched: a carried bundle, or a random one that shows only that it runs, and how fast.

A random target's answers mean nothing, and no drafter could be trained for it: the small target
drafts for its own widened form, so acceptance is near its upper end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from specbeam.benchmark.shapes import ModelShape, random_model
from specbeam.benchmark.workload import histories
from specbeam.bundle import (
    Bundle,
    BundleParts,
    LevelTokens,
    PromptTemplate,
    Window,
    load_bundle,
    write_bundle,
)
from specbeam.catalog import ItemTrie

_FIRST_CODE = 3  # after padding, BOS and EOS
_SPREAD = 6.0  # makes a random model's distributions far from uniform


@dataclass(frozen=True, slots=True)
class RandomWorld:
    """Sizes of a random bundle.

    Attributes:
        target: shape of the small target.
        items: in the catalogue.
        levels: tokens of an item, L.
        codes: per level.
    """

    target: ModelShape
    items: int
    levels: int
    codes: int


USUAL_WORLD = RandomWorld(ModelShape(256, 6, 8, 2, 32, 512), items=12_000, levels=4, codes=256)
TOY_WORLD = RandomWorld(ModelShape(32, 2, 4, 2, 8, 64), items=300, levels=4, codes=12)


@dataclass(frozen=True, slots=True)
class World:
    """A bundle and who asks.

    Attributes:
        bundle: with a small target.
        users: item indices of users' histories; empty = items are drawn by popularity.
        label: what acceptance means here.
    """

    bundle: Bundle
    users: list[np.ndarray]
    label: str

    def histories(self, items_each: int, count: int, seed: int) -> list[np.ndarray]:
        """Return histories of exactly `items_each` items each."""
        return histories(self.bundle, self.users, items_each, count, seed)


def carried_world(directory: Path, histories_file: Path | None) -> World:
    """Open a bundle that was carried here, and users' histories beside it.

    Args:
        directory: the bundle.
        histories_file: from `save_histories`; None = none.

    Raises:
        BundleError: the bundle is damaged.
    """
    users = [] if histories_file is None else load_histories(histories_file)
    who = "test users" if users else "histories of items drawn by popularity, not of users"
    return World(load_bundle(directory), users, f"acceptance of the bundle's drafters; {who}")


def random_world(directory: Path, sizes: RandomWorld, seed: int) -> World:
    """Write a random bundle to an empty directory."""
    rng = np.random.default_rng(seed)
    offsets = _FIRST_CODE + sizes.codes * np.arange(sizes.levels)
    paths = offsets + rng.integers(sizes.codes, size=(sizes.items, sizes.levels))
    popularity = rng.zipf(1.5, sizes.items).clip(max=10_000)
    vocab_size = _FIRST_CODE + sizes.codes * sizes.levels
    model = random_model(sizes.target, vocab_size, torch.float32, seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.mul_(_SPREAD)
    model.save_pretrained(directory / "target")
    levels = tuple(LevelTokens(str(n), ((int(o), sizes.codes),)) for n, o in enumerate(offsets))
    parts = BundleParts(
        name="random",
        trie=ItemTrie.build(paths, [f"item-{n}" for n in range(sizes.items)], popularity),
        template=PromptTemplate.of_codes((1,), window=Window(100, 1)),
        levels=levels,
        vocab_size=vocab_size,
        target_dir=directory / "target",
        drafters={"itself": directory / "target"},
    )
    bundle = write_bundle(directory / "bundle", parts)
    return World(bundle, [], "random target that drafts for itself: acceptance means nothing")


def save_histories(file: Path, users: list[np.ndarray]) -> None:
    """Write users' histories (item indices) for a machine without the dataset's reader."""
    ends = np.cumsum([len(user) for user in users])
    np.savez_compressed(file, items=np.concatenate(users).astype(np.int32), ends=ends)


def load_histories(file: Path) -> list[np.ndarray]:
    """Read what `save_histories` wrote."""
    with np.load(file, allow_pickle=False) as stored:
        return np.split(stored["items"].astype(np.int64), stored["ends"][:-1])
