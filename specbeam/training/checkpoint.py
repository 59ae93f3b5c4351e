"""Resumable training state as safetensors and JSON."""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from specbeam.training.errors import CheckpointError
from specbeam.training.files import read_json, replace_directory, write_json

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
BEST_FILE = "best.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
RNG_KEY = "rng"
LOSS_DECAY = 0.98


@dataclass(slots=True)
class LoopState:
    """Where a phase stands.

    Attributes:
        step: optimiser steps done.
        epoch: current epoch, from 0.
        batch: batches done in this epoch.
        elapsed_s: wall-clock seconds spent, over all runs.
        tokens: labelled tokens trained on.
        train_loss: running mean of the training loss, in nats per token; 0 before the first step.
        validations: validations done.
        best_score: best validation score so far; None before the first.
        best_step: step of the best score.
        history: one record per validation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    tokens: int = 0
    train_loss: float = 0.0
    validations: int = 0
    best_score: float | None = None
    best_step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def count_step(self, loss: float, tokens: int) -> None:
        """Record an optimiser step over `tokens` labelled tokens with this loss."""
        previous = self.train_loss if self.step else loss
        self.train_loss = LOSS_DECAY * previous + (1.0 - LOSS_DECAY) * loss
        self.step += 1
        self.tokens += tokens


def save_checkpoint(
    directory: Path,
    state: LoopState,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    best: dict[str, Tensor] | None,
) -> None:
    """Write a checkpoint; an older one stays valid until the new one is complete.

    Args:
        directory: the checkpoint's directory.
        state: counters.
        model: current weights.
        optimizer: AdamW over the model's parameters.
        best: weights of the best validation, if any.
    """
    scratch = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    save_file(weights_of(model), scratch / MODEL_FILE)
    if best is not None:
        save_file(best, scratch / BEST_FILE)
    moments = _optimizer_tensors(model, optimizer)
    save_file({RNG_KEY: torch.get_rng_state(), **moments}, scratch / OPTIMIZER_FILE)
    write_json(scratch / STATE_FILE, asdict(state))
    replace_directory(scratch, directory)


def load_checkpoint(
    directory: Path, model: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[LoopState, dict[str, Tensor] | None] | None:
    """Restore model, optimiser and random state in place.

    Returns:
        The counters and the best weights, or None if there is no checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged or of another model.
    """
    old = directory.with_name(f"{directory.name}.old")
    source = directory if directory.is_dir() else old
    if not source.is_dir():
        return None
    try:
        state = LoopState(**read_json(source / STATE_FILE))
        load_weights(model, load_file(source / MODEL_FILE))
        tensors = load_file(source / OPTIMIZER_FILE)
        torch.set_rng_state(tensors.pop(RNG_KEY))
        _restore_optimizer(model, optimizer, tensors)
        has_best = (source / BEST_FILE).is_file()
        best = load_file(source / BEST_FILE) if has_best else None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"{source} cannot be resumed ({error}); start afresh without --resume"
        ) from error
    return state, best


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of all parameters by name (tied ones once)."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def load_weights(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into the model's parameters.

    Raises:
        KeyError: a parameter is missing from `weights`.
        RuntimeError: a shape differs.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().clone()
    return tensors


def _restore_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]
) -> None:
    parameters: dict[str, Any] = dict(model.named_parameters())
    for combined, value in tensors.items():
        key, _, name = combined.partition("/")
        optimizer.state[parameters[name]][key] = value
