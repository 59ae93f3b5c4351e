"""How long and how fast a draft is aligned."""

from dataclasses import replace

from specbeam.training.data.dataset import Dataset
from specbeam.training.errors import TrainingError
from specbeam.training.presets import PhaseConfig, Preset

# A trained drafter forgets what it knows at the rate that new weights need.
TRAINED_START_RATE = 1.0 / 3.0
ORDER_JITTER = 0.3
HELD_OUT_SHARE = 0.1


def alignment_phase(
    preset: Preset,
    *,
    trained_start: bool,
    minutes: float | None = None,
    steps: int | None = None,
    epochs: float | None = None,
) -> PhaseConfig:
    """Return the hyperparameters of an alignment: those of the preset's draft, judged more often.

    Args:
        preset: of the draft.
        trained_start: whether the first weights are those of a drafter.
        minutes: budget; None for no limit.
        steps: most optimiser steps; None for no limit.
        epochs: passes over the loss's data; the preset's if None.

    Raises:
        TrainingError: a limit is not positive.
    """
    if any(limit is not None and limit <= 0 for limit in (minutes, steps, epochs)):
        raise TrainingError("minutes, steps and epochs must be positive")
    phase = preset.draft_phase
    return replace(
        phase,
        max_epochs=phase.max_epochs if epochs is None else epochs,
        min_steps=phase.min_steps if epochs is None else 0,
        minutes=minutes,
        max_steps=steps,
        learning_rate=phase.learning_rate * (TRAINED_START_RATE if trained_start else 1.0),
        jitter=ORDER_JITTER,
        num_validations=8,
        patience=4,
    )


def most_held_out(dataset: Dataset) -> int:
    """Return how many users at most are judged by and not trained on; 0 for a handful of users."""
    users = sum(len(history) > 0 for history in dataset.histories("train"))
    return int(HELD_OUT_SHARE * users)
