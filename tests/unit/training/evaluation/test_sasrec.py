import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from specbeam.training.data.dataset import Dataset, with_train_popularity
from specbeam.training.errors import DatasetError
from specbeam.training.evaluation.ranking import rank_all
from specbeam.training.evaluation.users import evaluation_users
from specbeam.training.evaluation.values import NO_ITEM
from specbeam.training.sasrec import loss as loss_module
from specbeam.training.sasrec.batches import epoch_batches, padded
from specbeam.training.sasrec.config import SasRecConfig
from specbeam.training.sasrec.files import load_sasrec, save_sasrec
from specbeam.training.sasrec.fitting import fit_sasrec
from specbeam.training.sasrec.loss import catalogue_cross_entropy
from specbeam.training.sasrec.model import SasRec

CONFIG = SasRecConfig(
    hidden_size=16, max_length=12, batch_size=16, max_epochs=4, patience=4, warmup_steps=5
)


def without_train_items(dataset: Dataset, item: int) -> Dataset:
    """Return the dataset with `item` gone from the train split."""
    old = dataset.interactions
    kept = (old.split != 0) | (old.item != item)
    new = dataclasses.replace(
        old, user=old.user[kept], item=old.item[kept], time=old.time[kept], split=old.split[kept]
    )
    return Dataset(dataset.name, dataset.levels, with_train_popularity(dataset.items, new), new)


def test_the_blocked_loss_and_its_gradients_are_cross_entropys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loss_module, "BLOCK_ROWS", 8)
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(21, 6, generator=generator, requires_grad=True)
    items = torch.randn(40, 6, generator=generator, requires_grad=True)
    labels = torch.randint(40, (21,), generator=generator)
    expected = functional.cross_entropy(states @ items.T, labels)
    wanted = torch.autograd.grad(3 * expected, (states, items))
    for bf16, tolerance in ((False, 1e-6), (True, 2e-2)):
        found = catalogue_cross_entropy(states, items, labels, bf16=bf16)
        gradients = torch.autograd.grad(3 * found, (states, items))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(gradients, wanted, rtol=tolerance, atol=tolerance)


def test_no_position_sees_a_later_item_or_the_padding() -> None:
    torch.manual_seed(0)
    model = SasRec(30, CONFIG).eval()
    short = model(torch.tensor([[4, 9, 2]]))
    longer = model(torch.tensor([[4, 9, 2, 7, 0, 0], [1, 2, 3, 4, 5, 6]]))
    torch.testing.assert_close(short[0], longer[0, :3])


def test_padding_keeps_the_latest_items() -> None:
    rows = padded([np.arange(6), np.array([3]), np.empty(0, np.int32)], 4)
    assert rows.tolist() == [[3, 4, 5, 6], [4, 0, 0, 0], [0, 0, 0, 0]]


def test_an_epoch_has_every_sequence_once_and_batches_of_similar_length() -> None:
    lengths = np.random.default_rng(0).integers(2, 50, 500)
    batches = list(epoch_batches(lengths, 20, np.random.default_rng(1)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(500))
    spread = np.mean([lengths[batch].max() - lengths[batch].min() for batch in batches])
    assert spread < 10


def test_training_repeats_bit_for_bit_and_keeps_the_best_epoch(small_dataset: Dataset) -> None:
    lines: list[str] = []
    one = fit_sasrec(small_dataset, CONFIG, lambda share, text: lines.append(text))
    torch.manual_seed(99)
    two = fit_sasrec(small_dataset, CONFIG)
    assert len(lines) == one.report["epochs"] == 4
    scores = one.report["validation_scores"]
    assert one.report["best_epoch"] == int(np.argmax(scores)) + 1
    assert scores == two.report["validation_scores"]
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name])


def test_training_learns_which_item_follows(small_dataset: Dataset) -> None:
    config = dataclasses.replace(CONFIG, dropout=0.1, max_epochs=30, patience=30)
    report = fit_sasrec(small_dataset, config).report
    uniform = np.log((small_dataset.items.popularity > 0).sum())
    assert report["train_loss"] < uniform - 0.5


def test_training_stops_when_patience_or_minutes_are_spent(small_dataset: Dataset) -> None:
    seconds = iter(range(0, 10_000, 45))
    timed = fit_sasrec(
        small_dataset,
        dataclasses.replace(CONFIG, minutes=1.5, max_epochs=50, patience=50),
        clock=lambda: float(next(seconds)),
    ).report
    assert timed["stopped_by_minutes"]
    assert timed["epochs"] == 2
    still = dataclasses.replace(CONFIG, learning_rate=1e-12, max_epochs=50, patience=3)
    report = fit_sasrec(small_dataset, still).report
    assert report["epochs"] == report["best_epoch"] + 3 < 50


def test_lists_hold_no_history_and_no_untrained_item(small_dataset: Dataset) -> None:
    cold = int(small_dataset.items.popularity.argmax())
    dataset = without_train_items(small_dataset, cold)
    fitted = fit_sasrec(dataset, dataclasses.replace(CONFIG, max_epochs=1))
    histories = [user.history for user in evaluation_users(dataset)]
    histories += [np.array([cold], np.int32), np.empty(0, np.int32)]
    ranked = rank_all(fitted.ranker(len(dataset.items)), histories, 200)
    assert cold not in ranked
    trained = int((dataset.items.popularity > 0).sum())
    for row, history in zip(ranked, histories, strict=True):
        found = row[row != NO_ITEM]
        assert not np.isin(found, history).any()
        assert len(found) == len(set(found.tolist()))
        assert len(found) == trained - (dataset.items.popularity[history] > 0).sum()


def test_scores_are_those_of_one_history_at_a_time(small_dataset: Dataset) -> None:
    fitted = fit_sasrec(small_dataset, dataclasses.replace(CONFIG, max_epochs=1))
    ranker = fitted.ranker(len(small_dataset.items))
    histories = [user.history for user in evaluation_users(small_dataset)][:12]
    for history, row in zip(histories, ranker.rank(histories, 10), strict=True):
        known = [i for i in history if i in fitted.trained]
        numbers = [fitted.trained.tolist().index(i) + 1 for i in known[-12:]]
        sequence = torch.tensor([numbers])
        with torch.no_grad():
            scores = fitted.model.logits(fitted.model(sequence)[0, -1]).numpy()
        scores[np.isin(fitted.trained, history)] = -np.inf
        assert row.tolist() == fitted.trained[np.argsort(-scores)[:10]].tolist()


def test_a_saved_model_ranks_the_same_and_knows_its_dataset(
    tmp_path: Path, small_dataset: Dataset
) -> None:
    fitted = fit_sasrec(small_dataset, dataclasses.replace(CONFIG, max_epochs=1))
    save_sasrec(fitted, small_dataset, tmp_path / "sasrec")
    loaded = load_sasrec(tmp_path / "sasrec", small_dataset)
    histories = [user.history for user in evaluation_users(small_dataset)]
    num_items = len(small_dataset.items)
    one, two = (rank_all(f.ranker(num_items), histories, 20) for f in (fitted, loaded))
    assert (one == two).all()
    assert loaded.report == json.loads(json.dumps(fitted.report))
    with pytest.raises(DatasetError, match="fitted on other"):
        load_sasrec(tmp_path / "sasrec", without_train_items(small_dataset, 3))
    (tmp_path / "sasrec" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(DatasetError, match="saved SASRec"):
        load_sasrec(tmp_path / "sasrec", small_dataset)


def test_wrong_settings_are_reported_together() -> None:
    with pytest.raises(DatasetError) as caught:
        SasRecConfig(hidden_size=0, dropout=1.0, minutes=-1.0)
    assert len(caught.value.problems) == 3
    with pytest.raises(DatasetError, match="do not divide"):
        SasRecConfig(hidden_size=30, num_heads=4)
