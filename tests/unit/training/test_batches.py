import numpy as np
import pytest

from specbeam.bundle import PromptTemplate
from specbeam.training.batches import BatchMaker, drop_items, pad, split_long
from specbeam.training.data.dataset import Dataset


def make(dataset: Dataset, **changes: float) -> BatchMaker:
    options = {"batch_tokens": 400, "augment": 0.5, "seed": 1, **changes}
    return BatchMaker(
        dataset.histories("train"),
        dataset.items.paths,
        PromptTemplate.of_codes(),
        **options,  # type: ignore[arg-type]
    )


def test_padded_rows_equal_the_serving_prompt(small_dataset: Dataset) -> None:
    paths = small_dataset.items.paths
    short, longer = np.array([3], np.int32), np.array([5, 9, 2], np.int32)
    tokens = pad([short, longer], paths)
    assert tokens.shape == (2, 13)
    template = PromptTemplate.of_codes((1,))
    assert tokens[1].tolist() == template.render(paths[longer]).tolist()
    assert tokens[0, :5].tolist() == template.render(paths[short]).tolist()
    assert not tokens[0, 5:].any()


def test_an_epoch_without_augmentation_holds_every_item_once(small_dataset: Dataset) -> None:
    batches = make(small_dataset, augment=0.0).epoch(0)
    tokens = sum(int((batch[:, 1:] != 0).sum()) for batch in batches)
    assert tokens == 4 * small_dataset.counts()["train"]
    assert all(batch.size <= 400 or len(batch) == 1 for batch in batches)


def test_epochs_are_reproducible_and_differ(small_dataset: Dataset) -> None:
    maker = make(small_dataset)
    first, again, second = maker.epoch(0), maker.epoch(0), maker.epoch(1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert [b.tolist() for b in first] != [b.tolist() for b in second]


@pytest.mark.parametrize("length", [50, 51, 100, 165])
def test_long_histories_are_cut_into_windows(length: int) -> None:
    history = np.arange(length, dtype=np.int32)
    parts = split_long(history, 50, np.random.default_rng(length))
    assert np.concatenate(parts).tolist() == history.tolist()
    assert all(1 <= len(part) <= 50 for part in parts)


def test_dropping_keeps_order_and_at_least_one_item() -> None:
    rng = np.random.default_rng(0)
    for length in range(1, 12):
        kept = drop_items(np.arange(length, dtype=np.int32), rng).tolist()
        assert kept
        assert kept == sorted(kept)
