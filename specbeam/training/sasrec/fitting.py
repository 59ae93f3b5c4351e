"""Training SASRec on the train split, stopped by the validation split."""

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.evaluation.ranking import rank_all
from specbeam.training.evaluation.users import EvaluationUser, evaluation_users
from specbeam.training.evaluation.values import ranking_values
from specbeam.training.precision import bf16_is_fast
from specbeam.training.sasrec.batches import epoch_batches, padded
from specbeam.training.sasrec.config import SasRecConfig
from specbeam.training.sasrec.loss import catalogue_cross_entropy
from specbeam.training.sasrec.model import SasRec
from specbeam.training.sasrec.ranker import SasRecRanker, known_numbers

Int32Array = npt.NDArray[np.int32]

STOPPING_CUTOFF = 10
STOPPING_METRIC = f"ndcg@{STOPPING_CUTOFF}"
MAX_GRADIENT_NORM = 1.0

# Told the share done, 0 .. 1, and a line such as "epoch 3, loss 7.1, valid ndcg@10 0.021".
OnEpoch = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class FittedSasRec:
    """A trained model and how it was trained.

    Attributes:
        model: with the weights of the best epoch.
        trained: item number of the dataset for each item of the model, ascending.
        report: epochs, minutes and validation scores, as JSON values.
    """

    model: SasRec
    trained: Int32Array
    report: dict[str, Any]

    def ranker(self, num_items: int) -> SasRecRanker:
        """Return a ranker over a dataset of N items."""
        return SasRecRanker(self.model, self.trained, num_items)


class _Fit:
    """State of one training run."""

    def __init__(self, dataset: Dataset, config: SasRecConfig) -> None:
        self.config, self.num_items = config, len(dataset.items)
        self.trained = np.flatnonzero(dataset.items.popularity > 0).astype(np.int32)
        numbers = known_numbers(self.trained, self.num_items)
        # One more than is read, because the last item of a sequence is only a label.
        self.sequences = [
            numbers[history][-config.max_length - 1 :]
            for history in dataset.histories("train")
            if len(history) > 1
        ]
        if not self.sequences:
            raise TrainingError(f"dataset {dataset.name} has no train history of two items")
        self.lengths = np.array([len(sequence) for sequence in self.sequences])
        self.model = SasRec(len(self.trained), config)
        self.optimizer = _optimizer(self.model, config)
        self.rng = np.random.default_rng(config.seed)
        self.step = 0
        self.bf16 = bf16_is_fast(torch.device("cpu"))

    def epoch(self) -> float:
        """Train on every sequence once and return the mean loss per position."""
        self.model.train()
        total, positions = 0.0, 0
        for chosen in epoch_batches(self.lengths, self.config.batch_size, self.rng):
            rows = padded([self.sequences[i] for i in chosen], self.config.max_length + 1)
            loss, count = self._loss(rows)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._set_learning_rate()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRADIENT_NORM)
            self.optimizer.step()
            total, positions = total + loss.item() * count, positions + count
        return total / positions

    def _loss(self, rows: Tensor) -> tuple[Tensor, int]:
        """Return the mean cross-entropy over the catalogue and the number of positions."""
        labels = rows[:, 1:]
        real = labels > 0
        states = self.model(rows[:, :-1])[real]
        items = self.model.items.weight[1:]
        loss = catalogue_cross_entropy(states, items, labels[real] - 1, bf16=self.bf16)
        return loss, len(states)

    def _set_learning_rate(self) -> None:
        self.step += 1
        share = min(1.0, self.step / max(1, self.config.warmup_steps))
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * share

    def validate(self, users: Sequence[EvaluationUser]) -> float:
        """Return the mean NDCG over validation users; 0 without any."""
        if not users:
            return 0.0
        ranker = SasRecRanker(self.model, self.trained, self.num_items)
        ranked = rank_all(ranker, [user.history for user in users], STOPPING_CUTOFF)
        truth = [user.truth for user in users]
        values = ranking_values(ranked, truth, self.num_items, (STOPPING_CUTOFF,))
        return float(values[STOPPING_METRIC].mean())


def fit_sasrec(
    dataset: Dataset,
    config: SasRecConfig,
    on_epoch: OnEpoch = lambda share, text: None,
    clock: Callable[[], float] = time.monotonic,
) -> FittedSasRec:
    """Train until validation NDCG stops rising, or the epochs or minutes are spent.

    Args:
        dataset: its train split is fitted; its valid split decides when to stop.
        config: sizes and settings.
        on_epoch: told after each epoch.
        clock: seconds.

    Raises:
        TrainingError: no train history has two items, or nobody has validation items.
    """
    users = evaluation_users(dataset, "valid", config.validation_users, config.seed)
    if not users:
        raise TrainingError(f"dataset {dataset.name} has no validation items to stop SASRec by")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _run(_Fit(dataset, config), users, on_epoch, clock)


def _run(
    fit: _Fit, users: Sequence[EvaluationUser], on_epoch: OnEpoch, clock: Callable[[], float]
) -> FittedSasRec:
    config, begin = fit.config, clock()
    best, best_epoch, weights = -1.0, 0, fit.model.state_dict()
    scores: list[float] = []
    for epoch in range(1, config.max_epochs + 1):
        loss = fit.epoch()
        scores.append(fit.validate(users))
        if scores[-1] > best:
            best, best_epoch = scores[-1], epoch
            weights = copy.deepcopy(fit.model.state_dict())
        minutes = (clock() - begin) / 60
        spent = minutes / config.minutes if config.minutes else 0.0
        text = f"epoch {epoch}, loss {loss:.3f}, valid {STOPPING_METRIC} {scores[-1]:.4f}"
        on_epoch(min(1.0, max(epoch / config.max_epochs, spent)), f"{text}, best {best:.4f}")
        if epoch - best_epoch >= config.patience or spent >= 1.0:
            break
    fit.model.load_state_dict(weights)
    fit.model.eval()
    report = {
        "bf16": fit.bf16,
        "epochs": len(scores),
        "best_epoch": best_epoch,
        "minutes": round((clock() - begin) / 60, 2),
        "stopped_by_minutes": bool(config.minutes and spent >= 1.0),
        "train_loss": loss if math.isfinite(loss) else None,
        f"valid_{STOPPING_METRIC}": best,
        "validation_users": len(users),
        "validation_scores": scores,
        "parameters": sum(parameter.numel() for parameter in fit.model.parameters()),
    }
    return FittedSasRec(fit.model, fit.trained, report)


def _optimizer(model: SasRec, config: SasRecConfig) -> torch.optim.Optimizer:
    """Return AdamW that decays matrices and embeddings but neither biases nor norms."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, fused=True)
