import numpy as np
import pytest
import torch

from specbeam.training import sequence_teacher
from specbeam.training.batches import Batch, BatchMaker, Events
from specbeam.training.data.dataset import Dataset
from specbeam.training.sasrec.config import SasRecConfig
from specbeam.training.sasrec.fitting import FittedSasRec
from specbeam.training.sasrec.model import SasRec
from specbeam.training.sequence_teacher import SequenceTeacher


def test_votes_equal_one_prefix_at_a_time(small_dataset: Dataset) -> None:
    num_items = len(small_dataset.items)
    trained = np.flatnonzero(small_dataset.items.popularity > 0).astype(np.int32)
    torch.manual_seed(0)
    model = SasRec(len(trained), SasRecConfig(hidden_size=16, max_length=30)).eval()
    with torch.no_grad():
        model.items.weight.mul_(40.0)  # far from uniform
    teacher = SequenceTeacher(FittedSasRec(model, trained, {}), num_items)
    events = Events.of(small_dataset.histories("train"))
    batch = BatchMaker(events, small_dataset.items.paths, 20, 600, 0.5, 0.5, seed=3).epoch(0)[0]
    votes = teacher.votes(batch).toarray()
    number = {int(item): place for place, item in enumerate(trained)}
    for place, (row, column) in enumerate(zip(*batch.places, strict=True)):
        before = [number[int(batch.item_of[event])] for event in batch.events[row, :column]]
        if not before:
            assert not votes[place].any()
            continue
        with torch.no_grad():
            state = model(torch.tensor([before]) + 1)[0, -1]
            logits = model.logits(state)
        logits[before] = -torch.inf
        best = logits.topk(min(sequence_teacher.MAX_VOTES, len(trained)))
        expected = np.zeros(num_items)
        expected[trained[best.indices.numpy()]] = torch.softmax(best.values, 0).numpy()
        np.testing.assert_allclose(votes[place], expected, atol=1e-5)


def test_no_votes_where_everything_has_been_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sequence_teacher, "BLOCK", 3)
    model = SasRec(3, SasRecConfig(hidden_size=16)).eval()
    teacher = SequenceTeacher(FittedSasRec(model, np.arange(3, dtype=np.int32), {}), 3)
    items = np.array([0, 1, 2, 0])
    votes = teacher.votes(Batch(np.arange(4)[None], items, np.zeros((3, 1), np.int32))).toarray()
    np.testing.assert_allclose(votes.sum(axis=1), [0.0, 1.0, 1.0, 0.0], atol=1e-6)
    assert votes[2, 2] > 0.99
