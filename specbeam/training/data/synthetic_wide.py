"""A generated catalogue of any size with wide levels, to try a million items.

The other generator (`synthetic`) imitates a catalogue of some thousand items, down to its titles.
This one has codes of equal width on every level, a Zipf-like popularity on the first two of them,
and users who follow: an item's own successor, the successor of its two-code prefix, or one of a
few favourite prefixes.  A million items with four levels of 256 have 15 children below two codes,
so no level is small enough to be taken whole.  Everything is drawn for all users at once.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from specbeam.training.data.dataset import Dataset, Interactions, Items, with_train_popularity
from specbeam.training.data.vocabulary import codes_to_tokens, make_levels
from specbeam.training.errors import TrainingError

Int64Array = npt.NDArray[np.int64]

LEVEL_NAMES = ("a", "b", "c", "d")
FOLLOW_ITEM, FOLLOW_PREFIX, STAY = 0.35, 0.35, 0.15  # the rest goes to a favourite prefix
FAVOURITES = 3
ZIPF = 0.7
FIRST_TIME_MS, GAP_MS = 1_700_000_000_000, 6 * 3_600_000


@dataclass(frozen=True, slots=True)
class WideConfig:
    """Size of a generated dataset.

    Attributes:
        num_items: items in the catalogue.
        num_users: users.
        mean_length: mean interactions per user, all splits together; at least 4.
        codes: codes per level, four levels.
        seed: the same seed gives the same dataset.
    """

    num_items: int = 1_000_000
    num_users: int = 40_000
    mean_length: float = 12.0
    codes: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be laid out."""
        if self.codes < 2 or not self.codes**2 <= self.num_items <= self.codes**4 // 4:
            raise TrainingError(
                f"four levels of {self.codes} codes hold {self.codes**2} to {self.codes**4 // 4} "
                f"items, not {self.num_items}"
            )
        if self.num_users < 1 or self.mean_length < 4:
            raise TrainingError("at least one user with 4 interactions is needed")


@dataclass(frozen=True, slots=True)
class _World:
    """What the walks look up; items are numbered prefix after prefix, popular ones first.

    Attributes:
        prefix: two-code prefix of each item. Shape (N,).
        start: first item of each prefix, and N. Shape (P + 1,).
        cumulative: running popularity of the prefixes. Shape (P,).
        next_prefix: prefix that usually follows. Shape (P,).
        next_item: item that usually follows. Shape (N,).
    """

    prefix: Int64Array
    start: Int64Array
    cumulative: npt.NDArray[np.float64]
    next_prefix: Int64Array
    next_item: Int64Array


def synthesize_wide(config: WideConfig) -> Dataset:
    """Generate a dataset; each user's last item is test, the one before it valid.

    Raises:
        TrainingError: a size is too small or too large.
    """
    rng = np.random.default_rng(config.seed)
    codes = _codes(config, rng)
    levels = make_levels(LEVEL_NAMES, [config.codes] * len(LEVEL_NAMES))
    world = _make_world(codes, config, rng)
    interactions = _walks(world, config, rng)
    digits = len(str(config.num_items - 1))
    ids = tuple(f"item-{number:0{digits}d}" for number in range(config.num_items))
    items = Items(
        item_ids=ids,
        paths=codes_to_tokens(codes.astype(np.int32), levels),
        titles=ids,
        topics=((),) * config.num_items,
        popularity=np.zeros(config.num_items, np.int32),
        created_at=(FIRST_TIME_MS // 1000,) * config.num_items,
    )
    return Dataset(
        "synthetic-wide", levels, with_train_popularity(items, interactions), interactions
    )


def _codes(config: WideConfig, rng: np.random.Generator) -> Int64Array:
    """Return distinct codes, prefix after prefix; every prefix has an item. Shape (N, 4)."""
    count, prefixes = config.codes, config.codes**2
    share = rng.dirichlet(np.full(prefixes, 4.0))
    sizes = 1 + rng.multinomial(config.num_items - prefixes, share)
    sizes = np.minimum(sizes, prefixes)
    while (short := config.num_items - int(sizes.sum())) > 0:
        sizes = np.minimum(sizes + rng.multinomial(short, share), prefixes)
    # Distinct pairs of the last two codes within a prefix: steps of one odd-sized cycle each.
    place = np.arange(config.num_items) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    prefix = np.repeat(np.arange(prefixes), sizes)
    pair = (rng.integers(prefixes, size=prefixes)[prefix] + place * _stride(prefixes)) % prefixes
    return np.stack([prefix // count, prefix % count, pair // count, pair % count], axis=1)


def _stride(size: int) -> int:
    """Return a step near the golden section that visits all of `size` places."""
    step = int(size * 0.618)
    while np.gcd(step, size) != 1:
        step += 1
    return step


def _make_world(codes: Int64Array, config: WideConfig, rng: np.random.Generator) -> _World:
    count, prefixes = config.codes, config.codes**2
    prefix = codes[:, 0] * count + codes[:, 1]
    start = np.searchsorted(prefix, np.arange(prefixes + 1))
    first, second = (rng.permutation(count) for _ in range(2))
    weight = np.outer((1.0 + first) ** -ZIPF, (1.0 + second) ** -ZIPF).ravel()
    follower = rng.permutation(count)
    inner = np.stack([rng.permutation(count) for _ in range(count)])
    a, b = np.divmod(np.arange(prefixes), count)
    next_prefix = follower[a] * count + inner[a, b]
    world = _World(prefix, start, np.cumsum(weight), next_prefix, np.zeros(0, np.int64))
    next_item = _popular(world, next_prefix[prefix], rng)
    return _World(prefix, start, world.cumulative, next_prefix, next_item)


def _popular(world: _World, prefix: Int64Array, rng: np.random.Generator) -> Int64Array:
    """Return an item of each prefix, its early ones more often."""
    size = world.start[prefix + 1] - world.start[prefix]
    rank = np.exp(rng.random(len(prefix)) * np.log1p(size)).astype(np.int64) - 1
    return np.asarray(world.start[prefix] + np.minimum(rank, size - 1))


def _walks(world: _World, config: WideConfig, rng: np.random.Generator) -> Interactions:
    users = config.num_users
    length = 4 + rng.geometric(1.0 / (config.mean_length - 3.0), users) - 1
    length = np.minimum(length, 60)
    point = rng.random((users, FAVOURITES)) * world.cumulative[-1]
    favourites = np.searchsorted(world.cumulative, point, side="right")
    longest = int(length.max())
    items = np.zeros((users, longest), np.int64)
    for step in range(longest):
        jump = _popular(
            world, favourites[np.arange(users), rng.integers(FAVOURITES, size=users)], rng
        )
        if not step:
            items[:, 0] = jump
            continue
        last, chance = items[:, step - 1], rng.random(users)
        prefix = world.prefix[last]
        followed = _popular(world, world.next_prefix[prefix], rng)
        stayed = _popular(world, prefix, rng)
        edges = np.cumsum([FOLLOW_ITEM, FOLLOW_PREFIX, STAY])
        choice = np.searchsorted(edges, chance, side="right")
        items[:, step] = np.choose(choice, [world.next_item[last], followed, stayed, jump])
    return _interactions(items, length, rng)


def _interactions(items: Int64Array, length: Int64Array, rng: np.random.Generator) -> Interactions:
    users, longest = items.shape
    there = np.arange(longest) < length[:, None]
    user, step = np.nonzero(there)
    split = np.clip(step - (length[user] - 3), 0, 2)
    time = FIRST_TIME_MS + rng.exponential(GAP_MS, items.shape).cumsum(axis=1)
    return Interactions(
        user_ids=tuple(f"user-{number:06d}" for number in range(users)),
        user=user.astype(np.int32),
        item=items[there].astype(np.int32),
        time=time[there].astype(np.int64),
        split=split.astype(np.uint8),
    )
