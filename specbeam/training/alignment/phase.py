"""The work of an alignment: teacher data, then the draft."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from specbeam.training.alignment.batches import AlignmentBatch, AlignmentBatches
from specbeam.training.alignment.config import LossName
from specbeam.training.alignment.context import AlignmentContext
from specbeam.training.alignment.coverage import CoverageJudge
from specbeam.training.alignment.fit import make_draft
from specbeam.training.alignment.losses import total_variation
from specbeam.training.alignment.objective import AlignmentObjective, LabelTerm, SequenceTerm
from specbeam.training.alignment.on_policy import StudentBeams
from specbeam.training.alignment.teacher_data import (
    TeacherMaker,
    ensure_teacher_data,
    num_shards,
)
from specbeam.training.alignment.teacher_shards import read_shard
from specbeam.training.alignment.tree_batches import TeacherPrompts, TreeBatchMaker
from specbeam.training.alignment.tree_loss import TreeLoss, level_loss_of
from specbeam.training.batches import BatchMaker, Events
from specbeam.training.choices import make_tables
from specbeam.training.draft_phase import ItemSampler, RowLoss, SequenceLoss
from specbeam.training.files import read_json, write_json
from specbeam.training.loop import LoopSetup, Objective
from specbeam.training.losses import distillation_loss
from specbeam.training.model import add_dropout
from specbeam.training.phases import run_phase
from specbeam.training.validation import make_validation_set

PHASE = "draft"
BEFORE_FILE = "before.json"
TEACHER_FILE = "teacher.json"
# Sequences of the base and of the loss, and prompts, must not see the same shuffles.
_BASE_SEED, _LOSS_SEED, _TREE_SEED = 1, 2, 3


def make_teacher_data(context: AlignmentContext) -> Mapping[str, Any]:
    """Make the teacher data that are missing; return their part of the report.

    Raises:
        StopRequested: the run was asked to stop; finished shards stay.
    """
    maker = TeacherMaker(
        target=context.target,
        trie=context.bundle.trie,
        template=context.bundle.template,
        dataset=context.dataset,
        prompts=context.prompts,
        source=context.source,
        should_stop=context.should_stop,
    )
    found = ensure_teacher_data(
        context.teacher_dir, maker, _num_shards(context), context.devices, context.reporter
    )
    # A resumed run reports what it made at first, not what was left to make.
    path = context.work_dir / TEACHER_FILE
    if context.devices.is_main and not path.is_file():
        write_json(path, found)
    return dict(context.devices.broadcast(read_json(path) if context.devices.is_main else None))


def train_aligned(context: AlignmentContext) -> Mapping[str, Any]:
    """Train the draft unless it is there; return its part of the report.

    Raises:
        StopRequested: the run was asked to stop; the checkpoint is up to date.
        TeacherDataError: teacher data are damaged or of something else.
        TrainingError: the loss is no longer finite.
    """

    def prepare() -> tuple[nn.Module, Objective[AlignmentBatch]]:
        draft = make_draft(
            context.bundle, context.start, context.draft_shape, seed=context.seed + 1
        )
        add_dropout(draft, context.phase.dropout)
        draft.to(context.devices.device)
        objective = _objective(context, draft)
        _measure_before(context, objective)
        return draft, objective

    setup = LoopSetup(
        name=PHASE,
        config=context.phase,
        batches=_batches(context),
        work_dir=context.work_dir,
        devices=context.devices,
        reporter=context.reporter,
        should_stop=context.should_stop,
        checkpoint_every_s=context.checkpoint_every_s,
    )
    report = run_phase(setup, context.seed, prepare)
    before = read_json(context.work_dir / BEFORE_FILE) if context.devices.is_main else None
    return {**report, "before": context.devices.broadcast(before)}


def _num_shards(context: AlignmentContext) -> int:
    return num_shards(context.teacher.prompts, context.teacher.shard_prompts)


def _batches(context: AlignmentContext) -> AlignmentBatches:
    config = context.config
    sequences = trees = base = None
    if config.alpha < 1.0:
        base = _sequences(context, config.base, _BASE_SEED)
    if config.needs_beams:
        shards = [
            read_shard(context.teacher_dir, index, context.source)
            for index in range(_num_shards(context))
        ]
        bundle = context.bundle
        prompts = TeacherPrompts(shards, bundle.trie, bundle.template, context.score_kind)
        seed = _seed(context, _TREE_SEED)
        trees = TreeBatchMaker(prompts, context.phase.batch_tokens, seed)
    elif config.alpha > 0.0:
        sequences = _sequences(context, config.loss, _LOSS_SEED)
    return AlignmentBatches(base, sequences, trees)


def _sequences(context: AlignmentContext, loss: LossName, seed: int) -> BatchMaker:
    """Return whole train histories, varied only for distillation: others need the truth."""
    varied = loss == "distillation"
    return BatchMaker(
        events=Events.of(context.prompts.histories),
        paths=context.dataset.items.paths,
        max_items=context.prompts.max_items,
        batch_tokens=context.phase.batch_tokens,
        drop=context.phase.drop if varied else 0.0,
        jitter=context.phase.jitter if varied else 0.0,
        seed=_seed(context, seed),
    )


def _seed(context: AlignmentContext, use: int) -> int:
    return context.seed * 4 + use


def _objective(context: AlignmentContext, draft: nn.Module) -> AlignmentObjective:
    config, trie = context.config, context.bundle.trie
    base = sequences = trees = None
    if config.alpha < 1.0:
        base = _term(context, config.base)
    if config.needs_beams:
        level_loss = level_loss_of(config, trie)
        trees = TreeLoss(level_loss, trie, bf16=context.bf16, student=_student(context))
    elif config.alpha > 0.0:
        sequences = _term(context, config.loss)
    users = make_validation_set(
        context.dataset,
        trie,
        context.bundle.template,
        context.phase.validation_users,
        context.seed,
    )
    judge = CoverageJudge(
        context.target, trie, users.share(context.devices).prompts, context.score_kind
    )
    return AlignmentObjective(config.alpha, base, sequences, trees, draft, judge, context.devices)


def _term(context: AlignmentContext, loss: LossName) -> SequenceTerm:
    """Return a loss over whole sequences."""
    trie, dataset = context.bundle.trie, context.dataset
    tables = make_tables(context.score_kind, trie, dataset)
    if loss == "ce":
        return LabelTerm(tables, context.bf16)
    return SequenceLoss(
        _row_loss(context, loss),
        context.target,
        tables,
        ItemSampler(trie, dataset),
        substitute=context.phase.substitute if loss == "distillation" else 0.0,
        bf16=context.bf16,
    )


def _row_loss(context: AlignmentContext, loss: LossName) -> RowLoss:
    if loss != "tvd-kd":
        return distillation_loss
    return partial(total_variation, temperature=context.config.temperature or 1.0)


def _student(context: AlignmentContext) -> StudentBeams | None:
    if context.config.on_policy == 0.0:
        return None
    return StudentBeams(
        context.target,
        context.bundle.trie,
        context.score_kind,
        share=context.config.on_policy,
        bf16=context.bf16,
    )


def _measure_before(context: AlignmentContext, objective: AlignmentObjective) -> None:
    """Keep the coverage of the first weights, once."""
    path = context.work_dir / BEFORE_FILE
    if context.devices.broadcast(path.is_file()):
        return
    numbers = dict(objective.validate())
    if context.devices.is_main:
        write_json(path, numbers)
    shown = "  ".join(f"{key} {value:.4f}" for key, value in numbers.items())
    context.reporter.note(f"{PHASE} before: {shown}")
