"""A generated dataset with structure that a sequence model can learn.

Items belong to topics, each topic has kinds of things.  A user walks: mostly staying in the topic,
often moving to the kind that usually follows, often taking an item that usually follows the last
one, sometimes jumping to a favourite topic; popularity inside a kind falls off as in Zipf's law.
Semantic IDs are (topic, code of the kind, variant, serial), which gives the trie of
residual-quantised catalogues: wide at the first two levels, one or two children below, and a few
shared paths.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import Dataset, Interactions, Items, with_train_popularity
from specbeam.training.data.vocabulary import codes_to_tokens, make_levels
from specbeam.training.data.words import ADJECTIVES, TOPICS
from specbeam.training.errors import TrainingError

LEVEL_NAMES = ("a", "b", "c", "d")
KINDS_PER_TOPIC = 8
# Chances of one step of the walk; the rest is a jump to one of the user's favourite topics.
FOLLOW_ITEM = 0.40
FOLLOW_KIND = 0.30
STAY_IN_TOPIC = 0.15
# Shape of the trie, after the Beauty catalogue.
SAME_PREFIX = 0.42
SAME_THIRD = 0.08
COLLISION = 0.01
CODES = 64
ZIPF_EXPONENT = 1.0
FIRST_TIME_MS = 1_700_000_000_000
MEAN_GAP_MS = 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class SyntheticConfig:
    """Size of a generated dataset.

    Attributes:
        num_items: items in the catalogue.
        num_users: users; each has at least 4 interactions.
        mean_length: mean interactions per user, all splits together.
        seed: the same seed gives the same dataset.
    """

    num_items: int = 2000
    num_users: int = 1500
    mean_length: float = 11.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes too small to hold every kind of every topic."""
        least = len(TOPICS) * KINDS_PER_TOPIC
        if self.num_items < least:
            raise TrainingError(f"num_items is {self.num_items}; at least {least} are needed")
        if self.num_users < 1:
            raise TrainingError(f"num_users is {self.num_users}; at least 1 is needed")
        if self.mean_length < 4:
            raise TrainingError(f"mean_length is {self.mean_length}; at least 4 is needed")


@dataclass(frozen=True, slots=True)
class _World:
    """Everything the walk looks up.

    Attributes:
        kind: kind number of each item. Shape (N,).
        members: items of each kind, most popular first.
        weights: Zipf weights beside `members`.
        next_kind: the kind that usually follows, per kind.
        next_items: three items that usually follow, per item. Shape (N, 3).
    """

    kind: npt.NDArray[np.int64]
    members: list[npt.NDArray[np.int64]]
    weights: list[npt.NDArray[np.float64]]
    next_kind: npt.NDArray[np.int64]
    next_items: npt.NDArray[np.int64]


def synthesize(config: SyntheticConfig) -> Dataset:
    """Generate a dataset.

    Args:
        config: sizes and seed.

    Returns:
        A dataset whose splits are the last tenth (test) and the tenth before it (valid) of each
        user.

    Raises:
        TrainingError: a size is too small.
    """
    rng = np.random.default_rng(config.seed)
    kind = _assign_kinds(config.num_items, rng)
    codes = _assign_codes(kind, rng)
    levels = make_levels(LEVEL_NAMES, [len(TOPICS), *([CODES] * 3)])
    titles, topics = _titles(kind, rng)
    world = _make_world(kind, rng)
    interactions = _walk_all(world, config, rng)
    items = Items(
        item_ids=tuple(f"item-{number:05d}" for number in range(config.num_items)),
        paths=codes_to_tokens(codes, levels),
        titles=titles,
        topics=topics,
        popularity=np.zeros(config.num_items, dtype=np.int32),
        created_at=(FIRST_TIME_MS // 1000,) * config.num_items,
    )
    items = with_train_popularity(items, interactions)
    return Dataset("synthetic", levels, items, interactions)


def _assign_kinds(num_items: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Return each item's kind; every kind has an item, topic sizes differ."""
    num_kinds = len(TOPICS) * KINDS_PER_TOPIC
    share = rng.dirichlet(np.full(num_kinds, 3.0))
    extra = rng.choice(num_kinds, size=num_items - num_kinds, p=share)
    kind = np.concatenate([np.arange(num_kinds), extra])
    return np.asarray(rng.permutation(kind), dtype=np.int64)


def _assign_codes(kind: npt.NDArray[np.int64], rng: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return codes: topic, a code of the kind's own block, variant, serial. Shape (N, 4)."""
    codes = np.zeros((len(kind), 4), dtype=np.int32)
    block = CODES // KINDS_PER_TOPIC
    last_of_kind: dict[int, int] = {}
    taken: set[tuple[int, ...]] = set()
    for item, kind_number in enumerate(kind.tolist()):
        topic, place = divmod(kind_number, KINDS_PER_TOPIC)
        fresh = [
            topic,
            place * block + rng.integers(block),
            rng.integers(CODES),
            rng.integers(CODES),
        ]
        previous = last_of_kind.get(kind_number)
        chance = rng.random()
        if previous is not None and chance < SAME_PREFIX:
            fresh[1] = codes[previous, 1]
            if chance < SAME_THIRD:
                fresh[2] = codes[previous, 2]
            if chance < COLLISION:
                fresh[3] = codes[previous, 3]
        while tuple(fresh) in taken and chance >= COLLISION:
            fresh[3] = rng.integers(CODES)
        codes[item] = fresh
        taken.add(tuple(int(code) for code in fresh))
        last_of_kind[kind_number] = item
    return codes


def _titles(
    kind: npt.NDArray[np.int64], rng: np.random.Generator
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    """Return a readable title and the topics of each item."""
    names = list(TOPICS)
    titles: list[str] = []
    topics: list[tuple[str, ...]] = []
    used: dict[str, int] = {}
    for kind_number in kind.tolist():
        topic, place = divmod(kind_number, KINDS_PER_TOPIC)
        noun = TOPICS[names[topic]][place]
        title = f"{ADJECTIVES[rng.integers(len(ADJECTIVES))].capitalize()} {noun}"
        used[title] = used.get(title, 0) + 1
        titles.append(title if used[title] == 1 else f"{title} No. {used[title]}")
        topics.append((names[topic], noun))
    return tuple(titles), tuple(topics)


def _make_world(kind: npt.NDArray[np.int64], rng: np.random.Generator) -> _World:
    num_kinds = len(TOPICS) * KINDS_PER_TOPIC
    members = [np.flatnonzero(kind == number) for number in range(num_kinds)]
    weights = []
    for items in members:
        rank = np.arange(1, len(items) + 1, dtype=np.float64)
        weights.append(rank**-ZIPF_EXPONENT / (rank**-ZIPF_EXPONENT).sum())
    # A kind is usually followed by another of its topic, one in four leads to a neighbouring topic.
    next_kind = np.empty(num_kinds, dtype=np.int64)
    for topic in range(len(TOPICS)):
        ring = topic * KINDS_PER_TOPIC + rng.permutation(KINDS_PER_TOPIC)
        next_kind[ring] = np.roll(ring, -1)
    leaving = rng.random(num_kinds) < 0.25
    next_kind[leaving] = (next_kind[leaving] + KINDS_PER_TOPIC) % num_kinds
    next_items = np.empty((len(kind), 3), dtype=np.int64)
    for item, kind_number in enumerate(kind.tolist()):
        after = next_kind[kind_number]
        next_items[item] = rng.choice(members[after], size=3, p=weights[after])
    return _World(kind, members, weights, next_kind, next_items)


def _walk_all(world: _World, config: SyntheticConfig, rng: np.random.Generator) -> Interactions:
    user, item, time, split = [], [], [], []
    for number in range(config.num_users):
        length = 4 + int(rng.geometric(1.0 / (config.mean_length - 3.0))) - 1
        walk = _walk(world, min(length, len(world.kind) // 2), rng)
        held_out = max(1, round(0.1 * len(walk)))
        parts = [len(walk) - 2 * held_out, held_out, held_out]
        user.append(np.full(len(walk), number))
        item.append(np.array(walk))
        gaps = rng.exponential(MEAN_GAP_MS, size=len(walk))
        time.append(FIRST_TIME_MS + np.cumsum(gaps).astype(np.int64))
        split.append(np.repeat(np.arange(3), parts))
    return Interactions(
        user_ids=tuple(f"user-{number:05d}" for number in range(config.num_users)),
        user=np.concatenate(user).astype(np.int32),
        item=np.concatenate(item).astype(np.int32),
        time=np.concatenate(time).astype(np.int64),
        split=np.concatenate(split).astype(np.uint8),
    )


def _walk(world: _World, length: int, rng: np.random.Generator) -> list[int]:
    """Return distinct items of one user, oldest first."""
    favourites = rng.choice(len(TOPICS), size=3, replace=False)
    walk: list[int] = []
    seen: set[int] = set()
    while len(walk) < length:
        item = _step(world, walk[-1] if walk else None, favourites, rng)
        attempts = 0
        while item in seen:
            attempts += 1
            item = (
                _jump(world, favourites, rng)
                if attempts < 20
                else int(rng.integers(len(world.kind)))
            )
        walk.append(item)
        seen.add(item)
    return walk


def _step(
    world: _World, last: int | None, favourites: npt.NDArray[np.int64], rng: np.random.Generator
) -> int:
    chance = rng.random()
    if last is None or chance >= FOLLOW_ITEM + FOLLOW_KIND + STAY_IN_TOPIC:
        return _jump(world, favourites, rng)
    kind = int(world.kind[last])
    if chance < FOLLOW_ITEM:
        return int(world.next_items[last, rng.integers(3)])
    if chance < FOLLOW_ITEM + FOLLOW_KIND:
        return _pick(world, int(world.next_kind[kind]), rng)
    topic = kind // KINDS_PER_TOPIC
    return _pick(world, topic * KINDS_PER_TOPIC + int(rng.integers(KINDS_PER_TOPIC)), rng)


def _jump(world: _World, favourites: npt.NDArray[np.int64], rng: np.random.Generator) -> int:
    topic = int(rng.choice(favourites))
    return _pick(world, topic * KINDS_PER_TOPIC + int(rng.integers(KINDS_PER_TOPIC)), rng)


def _pick(world: _World, kind: int, rng: np.random.Generator) -> int:
    return int(rng.choice(world.members[kind], p=world.weights[kind]))
