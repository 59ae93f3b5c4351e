"""Resumable training state as safetensors and JSON."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from specbeam.training.averaging import WeightAverage
from specbeam.training.errors import CheckpointError
from specbeam.training.files import read_json, replace_directory, write_json

STATE_FILE = "state.json"
MODEL_FILE = "model.safetensors"
AVERAGE_FILE = "average.safetensors"
BEST_FILE = "best.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
RANDOM_FILE = "random.safetensors"

RandomState = dict[str, Tensor]


@dataclass(slots=True)
class LoopState:
    """Where a phase stands.

    Attributes:
        step: optimiser steps done.
        epoch: current epoch, from 0.
        batch: steps done in this epoch.
        elapsed_s: seconds spent, over all runs; for reports only.
        tokens: labelled tokens trained on, over all processes.
        train_loss: running mean of the training loss, in nats per item.
        best_score: best validation score so far; None before the first.
        best_step: step of the best score.
        since_best: validations since then.
        history: one record per validation.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    elapsed_s: float = 0.0
    tokens: int = 0
    train_loss: float = 0.0
    best_score: float | None = None
    best_step: int = 0
    since_best: int = 0
    history: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Trained:
    """Everything that changes while a model trains.

    Attributes:
        model: current weights.
        optimizer: AdamW over the model's parameters.
        average: running average of the weights.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage


def save_checkpoint(
    directory: Path,
    state: LoopState,
    trained: Trained,
    best: dict[str, Tensor] | None,
    random: Sequence[RandomState],
) -> None:
    """Write a checkpoint; an older one stays valid until the new one is complete.

    Args:
        directory: the checkpoint's directory.
        state: counters.
        trained: model, optimiser and average.
        best: weights of the best validation, if any.
        random: random states, one per process.
    """
    scratch = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    save_file(weights_of(trained.model), scratch / MODEL_FILE)
    save_file(trained.average.weights(), scratch / AVERAGE_FILE)
    if best is not None:
        save_file(best, scratch / BEST_FILE)
    save_file(_optimizer_tensors(trained), scratch / OPTIMIZER_FILE)
    save_file(
        {f"{rank}/{key}": value for rank, some in enumerate(random) for key, value in some.items()},
        scratch / RANDOM_FILE,
    )
    write_json(scratch / STATE_FILE, asdict(state))
    replace_directory(scratch, directory)


def load_checkpoint(
    directory: Path, trained: Trained, num_processes: int
) -> tuple[LoopState, dict[str, Tensor] | None, list[RandomState]] | None:
    """Restore model, optimiser and average in place.

    Returns:
        The counters, the best weights and every process's random state, or None if there is no
        checkpoint.

    Raises:
        CheckpointError: the checkpoint is damaged, of another model or of another number of
            processes.
    """
    old = directory.with_name(f"{directory.name}.old")
    source = directory if directory.is_dir() else old
    if not source.is_dir():
        return None
    try:
        state = LoopState(**read_json(source / STATE_FILE))
        load_weights(trained.model, load_file(source / MODEL_FILE))
        trained.average.restore(load_file(source / AVERAGE_FILE))
        _restore_optimizer(trained, load_file(source / OPTIMIZER_FILE))
        has_best = (source / BEST_FILE).is_file()
        best = load_file(source / BEST_FILE) if has_best else None
        random = _by_process(load_file(source / RANDOM_FILE))
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"{source} cannot be resumed ({error}); start afresh without --resume"
        ) from error
    if len(random) != num_processes:
        raise CheckpointError(
            f"{source} was written by {len(random)} processes and cannot be resumed by "
            f"{num_processes}"
        )
    return state, best, random


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


def _optimizer_tensors(trained: Trained) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, parameter in trained.model.named_parameters():
        for key, value in trained.optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value).detach().clone()
    return tensors


def _restore_optimizer(trained: Trained, tensors: dict[str, Tensor]) -> None:
    parameters: dict[str, Any] = dict(trained.model.named_parameters())
    for combined, value in tensors.items():
        key, _, name = combined.partition("/")
        parameter = parameters[name]
        trained.optimizer.state[parameter][key] = value.to(parameter.device)


def _by_process(tensors: dict[str, Tensor]) -> list[RandomState]:
    states: dict[int, RandomState] = {}
    for combined, value in tensors.items():
        rank, _, key = combined.partition("/")
        states.setdefault(int(rank), {})[key] = value
    return [states[rank] for rank in sorted(states)]
