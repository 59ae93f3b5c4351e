import numpy as np
import pytest

from specbeam.bundle import PromptTemplate
from specbeam.training.augmentation import drop_some, jitter_order, split_long
from specbeam.training.batches import Batch, BatchMaker, Events, padded
from specbeam.training.data.dataset import Dataset


def make(dataset: Dataset, **changes: float) -> BatchMaker:
    options = {"batch_tokens": 400, "drop": 0.5, "jitter": 0.5, "seed": 1, **changes}
    return BatchMaker(
        events=Events.of(dataset.histories("train")),
        paths=dataset.items.paths,
        max_items=50,
        **options,  # type: ignore[arg-type]
    )


def test_padded_rows_equal_the_serving_prompt(small_dataset: Dataset) -> None:
    paths = small_dataset.items.paths
    items = np.array([3, 5, 9, 2])
    batch = Batch(padded([np.array([0]), np.array([1, 2, 3])]), items, paths)
    assert batch.tokens.shape == (2, 13)
    template = PromptTemplate.of_codes((1,))
    assert batch.tokens[1].tolist() == template.render(paths[items[1:]]).tolist()
    assert batch.tokens[0, :5].tolist() == template.render(paths[items[:1]]).tolist()
    assert not batch.tokens[0, 5:].any()
    assert batch.items.tolist() == items.tolist()
    assert batch.num_labels == 16


def test_an_epoch_without_augmentation_holds_every_event_once(small_dataset: Dataset) -> None:
    batches = make(small_dataset, drop=0.0, jitter=0.0).epoch(0)
    events = np.concatenate([batch.events[batch.places] for batch in batches])
    assert sorted(events.tolist()) == list(range(small_dataset.counts()["train"]))
    assert all(batch.tokens.size <= 400 or len(batch.tokens) == 1 for batch in batches)


def test_epochs_are_reproducible_and_differ(small_dataset: Dataset) -> None:
    maker = make(small_dataset)
    first, again, second = maker.epoch(0), maker.epoch(0), maker.epoch(1)
    assert all(np.array_equal(a.events, b.events) for a, b in zip(first, again, strict=True))
    assert [b.events.tolist() for b in first] != [b.events.tolist() for b in second]


def test_events_are_joined_user_by_user(small_dataset: Dataset) -> None:
    histories = small_dataset.histories("train")
    events = Events.of([histories[0], histories[0][:0], histories[1]])
    assert events.num_users == 2
    assert events.item.tolist() == [*histories[0].tolist(), *histories[1].tolist()]
    assert events.user().tolist() == [0] * len(histories[0]) + [1] * len(histories[1])


@pytest.mark.parametrize("length", [50, 51, 100, 165])
def test_long_histories_are_cut_into_windows(length: int) -> None:
    history = np.arange(length)
    parts = split_long(history, 50, np.random.default_rng(length))
    assert np.concatenate(parts).tolist() == history.tolist()
    assert all(1 <= len(part) <= 50 for part in parts)


def test_dropping_keeps_order_and_at_least_one_item() -> None:
    rng = np.random.default_rng(0)
    for length in range(1, 12):
        kept = drop_some(np.arange(length), rng).tolist()
        assert kept
        assert kept == sorted(kept)


def test_jitter_moves_items_a_few_places() -> None:
    rng = np.random.default_rng(0)
    moved = jitter_order(np.arange(40), rng)
    assert sorted(moved.tolist()) == list(range(40))
    assert moved.tolist() != list(range(40))
    assert np.abs(moved - np.arange(40)).max() <= 4
