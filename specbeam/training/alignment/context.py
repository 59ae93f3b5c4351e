"""What the parts of an alignment share."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from specbeam.bundle import Bundle
from specbeam.training.alignment.config import AlignmentConfig
from specbeam.training.alignment.fit import load_target, score_kind_of
from specbeam.training.alignment.prompt_source import (
    PromptSource,
    shows_codes_only,
    train_histories,
)
from specbeam.training.alignment.teacher_source import TeacherSource
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.presets import ModelShape, PhaseConfig
from specbeam.training.progress import Reporter
from specbeam.training.validation import validation_users


@dataclass(frozen=True, slots=True)
class TeacherSettings:
    """How much teacher data there are.

    Attributes:
        prompts: prompts searched by the target, rounded up to whole shards.
        width: beams kept per level.
        shard_prompts: prompts per shard.
    """

    prompts: int = 4096
    width: int = 20
    shard_prompts: int = 256


@dataclass(frozen=True)
class AlignmentContext:
    """What the parts of an alignment share.

    Attributes:
        dataset: histories.
        bundle: has the target.
        config: the loss.
        phase: hyperparameters.
        teacher: how much teacher data there are.
        teacher_dir: where they lie.
        start: drafter whose weights are trained further; None for new weights.
        draft_shape: of new weights.
        seed: of weights, prompts and batches.
        bf16: run matrix products in bfloat16 while training.
        work_dir: where plan, checkpoints and the finished draft are kept.
        devices: this process and the others.
        reporter: receives progress.
        should_stop: whether somebody asked for an end.
        checkpoint_every_s: seconds between checkpoints.
    """

    dataset: Dataset
    bundle: Bundle
    config: AlignmentConfig
    phase: PhaseConfig
    teacher: TeacherSettings
    teacher_dir: Path
    start: str | None
    draft_shape: ModelShape
    seed: int
    bf16: bool
    work_dir: Path
    devices: Devices
    reporter: Reporter
    should_stop: Callable[[], bool]
    checkpoint_every_s: float

    @property
    def score_kind(self) -> TrainedScoreKind:
        """Convention of the bundle's scores."""
        return score_kind_of(self.bundle)

    @cached_property
    def target(self) -> nn.Module:
        """The bundle's target, on this process's device."""
        return load_target(self.bundle).to(self.devices.device)

    @cached_property
    def prompts(self) -> PromptSource:
        """What prompts are cut from: train histories, those of validation users left out."""
        held_out = validation_users(self.dataset, self.phase.validation_users, self.seed)
        return PromptSource(
            histories=train_histories(self.dataset, held_out),
            max_items=self.bundle.template.window.max_items,
            drop=self.phase.drop,
            jitter=self.phase.jitter,
            seed=self.seed,
        )

    @cached_property
    def source(self) -> TeacherSource:
        """What the teacher data are made from."""
        fingerprints = self.bundle.manifest.fingerprints
        sampled = shows_codes_only(self.bundle.template)
        return TeacherSource(
            target=fingerprints.model,
            catalog=fingerprints.catalog,
            prompt=fingerprints.prompt,
            histories=self.prompts.digest(),
            score_kind=self.score_kind,
            width=self.teacher.width,
            shard_prompts=self.teacher.shard_prompts,
            drop=self.phase.drop,
            jitter=self.phase.jitter,
            substitute=self.phase.substitute if sampled else 0.0,
            seed=self.seed,
        )
