"""The plan of a training phase: counted in steps, so that a resumed run is the same run.

A budget in minutes is turned into steps once, before the first step, by timing real ones.  From
then on nothing depends on the clock.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from specbeam.training.errors import CheckpointError
from specbeam.training.files import read_json, write_json
from specbeam.training.presets import PhaseConfig

# The learning rate ends here, as a share of its peak.
FINAL_SHARE = 0.02
# What validations and checkpoints leave of a budget in minutes.
TRAINING_SHARE = 0.88


@dataclass(frozen=True, slots=True)
class Plan:
    """How long a phase trains.

    Attributes:
        steps: optimiser steps.
        warmup_steps: steps of linear warm-up.
        validate_every: steps between validations.
    """

    steps: int
    warmup_steps: int
    validate_every: int


def make_plan(
    config: PhaseConfig, steps_per_epoch: int, seconds_per_step: float | None = None
) -> Plan:
    """Return the plan of a phase.

    Args:
        config: limits; the tightest one counts.
        steps_per_epoch: optimiser steps of one pass over all users.
        seconds_per_step: measured, needed where the budget is in minutes.
    """
    steps = max(math.ceil(config.max_epochs * steps_per_epoch), config.min_steps)
    if config.minutes is not None and seconds_per_step is not None:
        affordable = TRAINING_SHARE * 60.0 * config.minutes / seconds_per_step
        steps = min(steps, math.floor(affordable))
    if config.max_steps is not None:
        steps = min(steps, config.max_steps)
    steps = max(steps, 1)
    warmup = min(config.warmup_steps, math.ceil(0.1 * steps))
    return Plan(steps, warmup, max(1, math.ceil(steps / config.num_validations)))


def learning_rate(step: int, plan: Plan, peak: float) -> float:
    """Return the rate of a step: linear warm-up, then cosine.

    Args:
        step: steps done before, 0 .. plan.steps - 1.
        plan: the phase's plan.
        peak: highest rate.
    """
    if step < plan.warmup_steps:
        return peak * (step + 1) / plan.warmup_steps
    share = (step - plan.warmup_steps) / max(plan.steps - plan.warmup_steps, 1)
    cosine = 0.5 * (1.0 + math.cos(math.pi * share))
    return peak * (FINAL_SHARE + (1.0 - FINAL_SHARE) * cosine)


def save_plan(path: Path, plan: Plan) -> None:
    """Write the plan beside the checkpoints."""
    write_json(path, asdict(plan))


def load_plan(path: Path) -> Plan | None:
    """Return the plan of a run begun earlier, or None.

    Raises:
        CheckpointError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        return Plan(**read_json(path))
    except (TypeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); start afresh") from error
