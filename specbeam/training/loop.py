"""The training loop shared by target and draft."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from specbeam.training.batches import BatchMaker
from specbeam.training.checkpoint import (
    LoopState,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    weights_of,
)
from specbeam.training.data.vocabulary import PAD_TOKEN_ID
from specbeam.training.presets import PhaseConfig
from specbeam.training.progress import Reporter

CHECKPOINT_EVERY_S = 120.0
MAX_GRADIENT_NORM = 1.0
ADAM_BETAS = (0.9, 0.98)
# The learning rate ends here, as a share of its peak.
FINAL_SHARE = 0.02


class Objective(Protocol):
    """What a phase optimises and how it is judged."""

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the scalar loss of a batch. `tokens` has shape (B, T)."""

    def validate(self) -> Mapping[str, float]:
        """Return validation numbers; `score` is the one to maximise."""


class StopRequested(Exception):
    """The run was asked to stop; a checkpoint has been written."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """What a finished phase reports.

    Attributes:
        state: final counters with the validation history.
        tokens_per_s: labelled tokens per second of the whole phase.
    """

    state: LoopState
    tokens_per_s: float


class TrainingLoop:
    """Trains one model until its time, step or epoch limit, and can be resumed."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        objective: Objective,
        batches: BatchMaker,
        config: PhaseConfig,
        *,
        checkpoint_dir: Path,
        reporter: Reporter,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create the optimiser and pick up a checkpoint if there is one.

        Args:
            name: shown in progress reports.
            model: trained in place; holds the best weights after `run`.
            objective: loss and validation.
            batches: makes the batches of an epoch.
            config: limits and hyperparameters.
            checkpoint_dir: where the state is kept.
            reporter: receives progress.
            should_stop: asked after every step; true leads to a checkpoint and StopRequested.
            clock: seconds.

        Raises:
            CheckpointError: the checkpoint is damaged or of another model.
        """
        self._name, self._model, self._objective = name, model, objective
        self._batches, self._config, self._reporter = batches, config, reporter
        self._directory, self._should_stop, self._clock = checkpoint_dir, should_stop, clock
        self._optimizer = make_optimizer(model, config)
        self._state = LoopState()
        self._best: dict[str, Tensor] | None = None
        restored = load_checkpoint(checkpoint_dir, model, self._optimizer)
        if restored is not None:
            self._state, self._best = restored
            reporter.note(f"{name}: resumed at step {self._state.step}")
        self._spent_before_s = self._state.elapsed_s
        self._started = clock()
        self._saved = clock()

    def run(self) -> PhaseResult:
        """Train to the limit, then load the best weights into the model.

        Raises:
            StopRequested: `should_stop` said so; the checkpoint is up to date.
        """
        while self._progress() < 1.0:
            self._run_epoch()
        if not self._state.history or self._state.history[-1]["step"] != self._state.step:
            self._validate()
        self._save()
        assert self._best is not None
        load_weights(self._model, self._best)
        elapsed = max(self._state.elapsed_s, 1e-9)
        return PhaseResult(self._state, self._state.tokens / elapsed)

    def _run_epoch(self) -> None:
        """Train on what is left of the current epoch."""
        state = self._state
        batches = self._batches.epoch(state.epoch)
        while state.batch < len(batches):
            if self._progress() >= 1.0:
                return
            self._step(batches[state.batch])
            state.batch += 1
            self._after_step(len(batches))
        state.epoch += 1
        state.batch = 0

    def _step(self, batch: np.ndarray) -> None:
        tokens = torch.from_numpy(batch).long()
        rate = learning_rate(self._progress(), self._config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._model.train()
        loss = self._objective.loss(tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._model.parameters(), MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._state.count_step(float(loss.detach()), int((batch[:, 1:] != PAD_TOKEN_ID).sum()))

    def _after_step(self, epoch_batches: int) -> None:
        """Report, validate when due, checkpoint when due, stop when asked."""
        state, progress = self._state, self._progress()
        elapsed = max(state.elapsed_s, 1e-9)
        left_s = elapsed * (1.0 - progress) / max(progress, 1e-9)
        self._reporter.update(
            self._name,
            min(progress, 1.0),
            f"loss {state.train_loss:.4f}  {state.tokens / elapsed:,.0f} tokens/s  "
            f"epoch {state.epoch + state.batch / epoch_batches:.2f}  ETA {format_duration(left_s)}",
        )
        if progress < 1.0 and progress * self._config.num_validations >= state.validations + 1:
            self._validate()
        if self._should_stop():
            self._save()
            raise StopRequested
        if self._clock() - self._saved >= CHECKPOINT_EVERY_S:
            self._save()

    def _validate(self) -> None:
        state = self._state
        self._model.eval()
        with single_thread():
            numbers = dict(self._objective.validate())
        state.validations = max(
            state.validations + 1, math.floor(self._progress() * self._config.num_validations)
        )
        shown = "  ".join(f"{key} {value:.4f}" for key, value in numbers.items())
        self._reporter.note(f"{self._name} step {state.step}: {shown}")
        state.history.append(
            {"step": state.step, "elapsed_s": round(state.elapsed_s, 1), **numbers}
        )
        if state.best_score is None or numbers["score"] >= state.best_score:
            state.best_score, state.best_step = numbers["score"], state.step
            self._best = weights_of(self._model)

    def _progress(self) -> float:
        """Return the used share of the tightest limit, 1 or more at the end."""
        state, config = self._state, self._config
        state.elapsed_s = self._spent_before_s + self._clock() - self._started
        shares = [state.elapsed_s / (60.0 * config.minutes), state.epoch / config.max_epochs]
        if config.max_steps is not None:
            shares.append(state.step / config.max_steps)
        return max(shares)

    def _save(self) -> None:
        self._progress()
        save_checkpoint(self._directory, self._state, self._model, self._optimizer, self._best)
        self._saved = self._clock()


@contextmanager
def single_thread() -> Iterator[None]:
    """Run the block on one thread.

    Validation is a long row of small operations.  On a busy machine, where each of them waits for
    the slower thread, two threads took minutes for what one thread does in seconds.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def make_optimizer(model: nn.Module, config: PhaseConfig) -> torch.optim.Optimizer:
    """Return AdamW with weight decay on matrices other than the embedding."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and "embed" not in name
        (decayed if is_matrix else free).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=ADAM_BETAS, fused=True)


def learning_rate(progress: float, config: PhaseConfig) -> float:
    """Return the rate at a share of the budget: linear warm-up, then cosine.

    Args:
        progress: used share of the budget, 0 .. 1.
        config: peak and warm-up share.
    """
    if progress < config.warmup:
        return config.learning_rate * max(progress / config.warmup, 0.01)
    share = (progress - config.warmup) / (1.0 - config.warmup)
    cosine = 0.5 * (1.0 + math.cos(math.pi * min(share, 1.0)))
    return config.learning_rate * (FINAL_SHARE + (1.0 - FINAL_SHARE) * cosine)


def format_duration(seconds: float) -> str:
    """Return `3:05` for 185 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
