"""Named model shapes and training settings."""

from dataclasses import dataclass, field, replace

from specbeam.training.errors import TrainingError
from specbeam.training.sasrec.config import SasRecConfig
from specbeam.training.teacher_kinds import TEACHER_KINDS, TeacherKind


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Shape of a decoder-only model.

    Attributes:
        hidden_size: width of the residual stream.
        num_layers: transformer blocks.
        num_heads: query heads.
        num_kv_heads: key and value heads.
        head_dim: size of one head.
        intermediate_size: width of the gated MLP.
    """

    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int


@dataclass(frozen=True, slots=True)
class PhaseConfig:
    """How one model is trained.  A phase ends at whichever limit comes first.

    Attributes:
        max_epochs: passes over all users.
        min_steps: a small data set is passed over more often than `max_epochs`, until it has given
            this many optimiser steps.
        minutes: budget, turned into steps by timing the first ones; None for no limit.
        max_steps: optimiser steps; None for no limit.
        batch_tokens: tokens per batch and process, padding included.
        learning_rate: peak of the schedule.
        weight_decay: AdamW's, on weight matrices only.
        warmup_steps: steps of linear warm-up, at most a tenth of all.
        dropout: on embeddings and on the output of each block's two halves.
        label_smoothing: share of each label given evenly to all candidates (target only).
        teacher: share of each label given to the preset's teacher (target only).
        drop: share of user histories from which items are dropped at random.
        jitter: share of user histories whose order is disturbed.
        substitute: share of items replaced by samples of the target (drafts only).
        average_decay: of the running average of the weights; 0 for none.
        num_validations: validations spread evenly over the plan.
        patience: validations without a better score after which the phase ends; None for never.
        validation_users: users sampled for a validation.
    """

    max_epochs: float
    min_steps: int = 0
    minutes: float | None = None
    max_steps: int | None = None
    batch_tokens: int = 2048
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup_steps: int = 200
    dropout: float = 0.0
    label_smoothing: float = 0.0
    teacher: float = 0.0
    drop: float = 0.5
    jitter: float = 0.0
    substitute: float = 0.0
    average_decay: float = 0.0
    num_validations: int = 10
    patience: int | None = None
    validation_users: int = 1000


@dataclass(frozen=True, slots=True)
class Preset:
    """A target, a draft, and how both are trained.

    Attributes:
        name: as given to `--preset`.
        target: shape of the target.
        draft: shape of the draft.
        target_phase: training of the target.
        draft_phase: distillation of the draft.
        teacher: who shares in the target's labels.
        sasrec: settings of a teacher of that kind.
    """

    name: str
    target: ModelShape
    draft: ModelShape
    target_phase: PhaseConfig
    draft_phase: PhaseConfig
    teacher: TeacherKind = "none"
    sasrec: SasRecConfig = field(default_factory=SasRecConfig)


_DRAFT = PhaseConfig(
    max_epochs=4,
    min_steps=1000,
    batch_tokens=1024,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    substitute=0.25,
    num_validations=4,
    validation_users=300,
)
_TARGET = PhaseConfig(
    max_epochs=8,
    min_steps=2500,
    batch_tokens=1024,
    learning_rate=1e-3,
    dropout=0.3,
    label_smoothing=0.02,
    teacher=0.8,
    jitter=0.3,
    average_decay=0.999,
    patience=4,
    validation_users=2000,
)

# Widths are powers of two with two key-value heads of 32, so that a trained target can be widened
# to the shape of a larger one for latency measurements.
PRESETS: dict[str, Preset] = {
    "tiny": Preset(
        name="tiny",
        target=ModelShape(64, 2, 2, 2, 32, 256),
        draft=ModelShape(64, 1, 2, 2, 32, 128),
        target_phase=replace(
            _TARGET,
            max_epochs=40,
            min_steps=0,
            minutes=0.8,
            learning_rate=3e-3,
            dropout=0.1,
            teacher=0.5,
            jitter=0.0,
            average_decay=0.99,
            num_validations=5,
            patience=None,
            validation_users=400,
        ),
        draft_phase=replace(
            _DRAFT,
            max_epochs=30,
            min_steps=0,
            minutes=0.3,
            learning_rate=3e-3,
            num_validations=3,
            validation_users=200,
        ),
        teacher="co-occurrence",
    ),
    "small": Preset(
        name="small",
        target=ModelShape(256, 4, 8, 2, 32, 512),
        draft=ModelShape(128, 2, 4, 2, 32, 512),
        target_phase=_TARGET,
        draft_phase=_DRAFT,
        teacher="sasrec",
    ),
    "base": Preset(
        name="base",
        target=ModelShape(512, 8, 16, 2, 32, 2048),
        draft=ModelShape(256, 2, 8, 2, 32, 1024),
        target_phase=replace(_TARGET, max_epochs=30, batch_tokens=8192, learning_rate=6e-4),
        draft_phase=replace(_DRAFT, max_epochs=10, batch_tokens=8192, learning_rate=1e-3),
        teacher="sasrec",
    ),
}


def get_preset(
    name: str,
    *,
    target_minutes: float | None = None,
    draft_minutes: float | None = None,
    target_steps: int | None = None,
    draft_steps: int | None = None,
    target_epochs: float | None = None,
    dropout: float | None = None,
    teacher: str | None = None,
) -> Preset:
    """Return a preset, with the caller's limits in place of its own.

    Args:
        name: `tiny`, `small` or `base`.
        target_minutes: budget of the target; the preset's if None.
        draft_minutes: budget of the draft; the preset's if None.
        target_steps: also stop the target after this many steps.
        draft_steps: also stop the draft after this many steps.
        target_epochs: passes of the target over all users; the preset's if None.
        dropout: the target's rate; the preset's if None.
        teacher: who shares in the labels; the preset's if None.

    Raises:
        TrainingError: there is no such preset or teacher, a limit is not positive, or the dropout
            is not a rate.
    """
    preset = PRESETS.get(name)
    if preset is None:
        raise TrainingError(f"no preset {name!r}; there are {', '.join(sorted(PRESETS))}")
    limits = (target_minutes, draft_minutes, target_steps, draft_steps, target_epochs)
    if any(limit is not None and limit <= 0 for limit in limits):
        raise TrainingError("minutes, steps and epochs must be positive")
    if dropout is not None and not 0.0 <= dropout < 1.0:
        raise TrainingError(f"dropout is {dropout}, not in 0 .. 1")
    target = preset.target_phase
    target = replace(
        target,
        max_epochs=target.max_epochs if target_epochs is None else target_epochs,
        min_steps=target.min_steps if target_epochs is None else 0,
        dropout=target.dropout if dropout is None else dropout,
    )
    kinds = {kind: kind for kind in TEACHER_KINDS}
    if teacher is not None and teacher not in kinds:
        raise TrainingError(f"no teacher {teacher!r}; there are {', '.join(TEACHER_KINDS)}")
    return replace(
        preset,
        teacher=preset.teacher if teacher is None else kinds[teacher],
        target_phase=_limited(target, target_minutes, target_steps),
        draft_phase=_limited(preset.draft_phase, draft_minutes, draft_steps),
    )


def _limited(phase: PhaseConfig, minutes: float | None, steps: int | None) -> PhaseConfig:
    return replace(phase, minutes=phase.minutes if minutes is None else minutes, max_steps=steps)
