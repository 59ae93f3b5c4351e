"""Vectorised choices, labels and teacher against a slow walk over items."""

from collections import defaultdict

import numpy as np
import pytest
import torch

from specbeam.catalog import ItemTrie
from specbeam.training.batches import Batch, BatchMaker, Events
from specbeam.training.choice_logits import level_choices
from specbeam.training.choices import LabelWeights, TrainedScoreKind, labels_of, make_tables
from specbeam.training.cooccurrence import RECENCY_DECAY, RECENT_ITEMS, WINDOW, CooccurrenceTeacher
from specbeam.training.data.dataset import Dataset

WEIGHTS = LabelWeights(smoothing=0.1, teacher=0.4)


@pytest.fixture(scope="module")
def batches(small_dataset: Dataset) -> list[Batch]:
    events = Events.of(small_dataset.histories("train"))
    maker = BatchMaker(events, small_dataset.items.paths, 20, 600, 0.5, 0.5, seed=3)
    return maker.epoch(0)[:3]


@pytest.fixture(scope="module")
def trie(small_dataset: Dataset) -> ItemTrie:
    return ItemTrie.build(small_dataset.items.paths, small_dataset.items.item_ids)


def slow_votes(dataset: Dataset, batch: Batch) -> np.ndarray:
    """One place at a time, counting pairs of all other users."""
    histories = [h.tolist() for h in dataset.histories("train") if len(h)]
    owner = np.concatenate([[u] * len(h) for u, h in enumerate(histories)])
    count = np.bincount(np.concatenate(histories), minlength=len(dataset.items))
    rows = []
    for row, column in zip(*batch.places, strict=True):
        votes: dict[int, float] = defaultdict(float)
        before = batch.events[row, :column]
        for age, event in enumerate(before[::-1][:RECENT_ITEMS]):
            item = batch.item_of[event]
            for user, history in enumerate(histories):
                if user == owner[event]:
                    continue
                for place in (p for p, other in enumerate(history) if other == item):
                    for distance in range(1, WINDOW + 1):
                        for near in (place - distance, place + distance):
                            if 0 <= near < len(history):
                                other = history[near]
                                norm = np.sqrt(count[item] * count[other])
                                votes[other] += RECENCY_DECAY**age / distance / norm
        for event in before:
            votes.pop(int(batch.item_of[event]), None)
        dense = np.zeros(len(dataset.items))
        dense[list(votes)] = list(votes.values())
        rows.append(dense)
    return np.array(rows)


def slow_labels(
    dataset: Dataset, kind: TrainedScoreKind, item: int, level: int, votes: np.ndarray
) -> dict[int, float]:
    """Label by token id."""
    paths = [tuple(path) for path in dataset.items.paths.tolist()]
    prefix = paths[item][:level]
    if kind == "TRIE":
        candidates = {path[level] for path in paths if path[:level] == prefix}
    else:
        candidates = {path[level] for path in paths}
    label = {token: WEIGHTS.smoothing / len(candidates) for token in candidates}
    label[paths[item][level]] += 1.0 - WEIGHTS.smoothing
    below = [number for number, path in enumerate(paths) if path[:level] == prefix]
    total = votes[below].sum()
    if total > 0:
        label = {token: value * (1.0 - WEIGHTS.teacher) for token, value in label.items()}
        for number in below:
            label[paths[number][level]] += WEIGHTS.teacher * votes[number] / total
    return label


def test_votes_equal_counting_by_hand_without_the_users_own(
    small_dataset: Dataset, batches: list[Batch]
) -> None:
    teacher = CooccurrenceTeacher(
        Events.of(small_dataset.histories("train")), len(small_dataset.items)
    )
    for batch in batches:
        fast = teacher.votes(batch).toarray()
        np.testing.assert_allclose(fast, slow_votes(small_dataset, batch), atol=1e-6)
        assert (fast.sum(axis=1) > 0).mean() > 0.3


def test_a_users_own_pairs_do_not_count_when_an_item_repeats() -> None:
    repeated = Events.of([np.array([0, 0, 2], np.int32)])
    teacher = CooccurrenceTeacher(repeated, 3)
    batch = Batch(np.array([[0, 1, 2]]), repeated.item, np.zeros((3, 1), np.int32))
    assert teacher.votes(batch).nnz == 0


@pytest.mark.parametrize("kind", ["TRIE", "VOCAB"])
def test_labels_equal_a_slow_walk(
    small_dataset: Dataset, trie: ItemTrie, batches: list[Batch], kind: TrainedScoreKind
) -> None:
    events = Events.of(small_dataset.histories("train"))
    teacher = CooccurrenceTeacher(events, len(small_dataset.items))
    tables = make_tables(kind, trie, small_dataset)
    batch = batches[0]
    votes = teacher.votes(batch)
    dense = votes.toarray()
    for level in range(tables.depth):
        choices = tables.of(batch.items, level)
        labels = labels_of(tables, choices, level, batch.items, WEIGHTS, votes)
        np.testing.assert_allclose(labels.sum(axis=1), 1.0, rtol=1e-5)
        places = set(choices.place.tolist())
        for place, item in enumerate(batch.items.tolist()):
            wanted = slow_labels(small_dataset, kind, item, level, dense[place])
            if place not in places:
                assert kind == "TRIE"
                assert len(wanted) == 1
                continue
            q = choices.place.tolist().index(place)
            columns = np.flatnonzero(choices.alive[q])
            tokens = columns if choices.tokens is None else choices.tokens[q, columns]
            found = dict(zip(tokens.tolist(), labels[q, columns].tolist(), strict=True))
            assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("kind", ["TRIE", "VOCAB"])
def test_logits_are_gathered_where_the_label_is_predicted(
    small_dataset: Dataset, trie: ItemTrie, batches: list[Batch], kind: TrainedScoreKind
) -> None:
    batch = batches[1]
    tables = make_tables(kind, trie, small_dataset)
    count, length = batch.tokens.shape
    # The logit of token v at position t of row b is a number that tells all three.
    vocab = small_dataset.vocab_size
    logits = torch.arange(count * length * vocab, dtype=torch.float64).view(count, length, vocab)
    for found in level_choices(batch, tables, torch.device("cpu")):
        picked = found.gather(logits).long()
        q = torch.arange(len(picked))
        chosen = picked[q, torch.from_numpy(found.choices.chosen)]
        row, position, token = (
            chosen // (length * vocab),
            chosen // vocab % length,
            chosen % vocab,
        )
        assert torch.equal(torch.from_numpy(batch.tokens)[row, position + 1], token)
        assert ((position % tables.depth) == found.level).all()
