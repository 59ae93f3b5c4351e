import numpy as np
import pytest

from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import check_dataset
from specbeam.training.data.synthetic_wide import WideConfig, synthesize_wide
from specbeam.training.errors import TrainingError

SMALL = WideConfig(num_items=4000, num_users=300, codes=16)


def test_same_seed_same_dataset_other_seed_another() -> None:
    one, two = synthesize_wide(SMALL), synthesize_wide(SMALL)
    other = synthesize_wide(WideConfig(num_items=4000, num_users=300, codes=16, seed=1))
    np.testing.assert_array_equal(one.items.paths, two.items.paths)
    np.testing.assert_array_equal(one.interactions.item, two.interactions.item)
    assert not np.array_equal(one.interactions.item, other.interactions.item)


def test_levels_are_wide_paths_distinct_and_splits_complete() -> None:
    dataset = synthesize_wide(SMALL)
    check_dataset(dataset)
    items = dataset.items
    trie = ItemTrie.build(items.paths, items.item_ids, items.popularity)
    assert trie.num_leaves == 4000
    assert [level.num_nodes for level in trie.levels[:3]] == [1, 16, 256]
    assert trie.levels[3].num_nodes > 8 * 256
    for split in ("valid", "test"):
        assert all(len(part) == 1 for part in dataset.histories(split))
    assert all(len(part) >= 2 for part in dataset.histories("train"))


def test_users_follow_items() -> None:
    items = synthesize_wide(SMALL).histories("train")
    pairs = [
        pair for user in items for pair in zip(user[:-1].tolist(), user[1:].tolist(), strict=True)
    ]
    follower: dict[int, list[int]] = {}
    for one, next_one in pairs:
        follower.setdefault(one, []).append(next_one)
    repeated = [len(after) - len(set(after)) for after in follower.values() if len(after) > 3]
    assert sum(repeated) > 0.1 * sum(len(after) for after in follower.values() if len(after) > 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"num_items": 10},
        {"num_items": 70_000},
        {"num_users": 0},
        {"mean_length": 3.0},
        {"codes": 1},
    ],
)
def test_impossible_sizes_are_refused(bad: dict[str, float]) -> None:
    sizes = {"num_items": 4000, "num_users": 300, "codes": 16, **bad}
    with pytest.raises(TrainingError):
        WideConfig(**sizes)  # type: ignore[arg-type]
