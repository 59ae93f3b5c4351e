import numpy as np
import pytest

from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import check_dataset
from specbeam.training.data.synthetic import SyntheticConfig, synthesize
from specbeam.training.errors import TrainingError


def test_same_seed_same_dataset_other_seed_another() -> None:
    config = SyntheticConfig(num_items=300, num_users=40, seed=5)
    one, two = synthesize(config), synthesize(config)
    other = synthesize(SyntheticConfig(num_items=300, num_users=40, seed=6))
    assert one.items.titles == two.items.titles
    np.testing.assert_array_equal(one.items.paths, two.items.paths)
    np.testing.assert_array_equal(one.interactions.item, two.interactions.item)
    assert one.items.titles != other.items.titles


def test_default_catalogue_has_the_shape_of_a_real_one() -> None:
    dataset = synthesize(SyntheticConfig())
    check_dataset(dataset)
    items = dataset.items
    trie = ItemTrie.build(items.paths, items.item_ids, items.popularity)
    children = [
        float(np.diff(level.first_child_of(np.arange(level.num_nodes + 1))).mean())
        for level in trie.levels[:-1]
    ]
    assert children[0] == 16
    assert children[1] > 20
    assert 1.2 < children[2] < 3.5
    assert 1.0 < children[3] < 1.3
    assert 5 <= trie.num_items - trie.num_leaves <= 60
    assert len(set(items.titles)) == len(items)


def test_users_do_not_repeat_items_and_every_split_is_there() -> None:
    dataset = synthesize(SyntheticConfig(num_items=200, num_users=30))
    for train, valid, test in zip(
        *(dataset.histories(split) for split in ("train", "valid", "test")), strict=True
    ):
        walk = np.concatenate([train, valid, test]).tolist()
        assert len(set(walk)) == len(walk)
        assert len(train) >= 2
        assert len(valid) >= 1
        assert len(test) >= 1


@pytest.mark.parametrize("sizes", [{"num_items": 10}, {"num_users": 0}, {"mean_length": 2.0}])
def test_sizes_that_cannot_work_are_refused(sizes: dict[str, float]) -> None:
    with pytest.raises(TrainingError, match="needed"):
        SyntheticConfig(**sizes)  # type: ignore[arg-type]
