"""The phases of a run, each with what it trains on and how it is judged."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.training.batches import AnyBatch, Batch, BatchMaker, Events
from specbeam.training.choices import ChoiceTables, LabelWeights, TrainedScoreKind
from specbeam.training.cooccurrence import CooccurrenceTeacher
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import DraftObjective, ItemSampler
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.files import read_json, write_json
from specbeam.training.loop import LoopSetup, Objective, PhaseResult, TrainingLoop
from specbeam.training.model import (
    add_dropout,
    build_model,
    load_model,
    num_parameters,
    save_model,
)
from specbeam.training.presets import PhaseConfig, Preset
from specbeam.training.progress import Reporter
from specbeam.training.sasrec.files import (
    SASREC_FILE,
    WEIGHTS_FILE,
    load_sasrec,
    save_sasrec,
)
from specbeam.training.sasrec.fitting import fit_sasrec
from specbeam.training.sequence_teacher import SequenceTeacher
from specbeam.training.target_phase import TargetObjective
from specbeam.training.teachers import Teacher
from specbeam.training.validation import ValidationSet, Validator, make_validation_set

TEACHER_FILE = "teacher.json"


@dataclass(frozen=True, slots=True)
class PhaseContext:
    """What both phases share.

    Attributes:
        dataset: items and interactions.
        trie: catalogue of the dataset.
        tables: the choices that lead to each item.
        template: renders prompts, as in serving.
        preset: shapes and hyperparameters.
        score_kind: convention of the scores.
        seed: of weights, batches and samples.
        bf16: run matrix products in bfloat16.
        work_dir: where plans, checkpoints and finished models are kept.
        teacher_dir: where a SASRec teacher is kept.
        devices: this process and the others.
        reporter: receives progress.
        should_stop: whether somebody asked for an end.
        checkpoint_every_s: seconds between checkpoints.
    """

    dataset: Dataset
    trie: ItemTrie
    tables: ChoiceTables
    template: PromptTemplate
    preset: Preset
    score_kind: TrainedScoreKind
    seed: int
    bf16: bool
    work_dir: Path
    teacher_dir: Path
    devices: Devices
    reporter: Reporter
    should_stop: Callable[[], bool]
    checkpoint_every_s: float


def make_teacher(context: PhaseContext) -> tuple[Teacher | None, Mapping[str, Any]]:
    """Return the teacher and its part of the report; a SASRec is trained unless it is there."""
    dataset, kind = context.dataset, context.preset.teacher
    if kind == "none":
        return None, {"kind": kind}
    if kind == "co-occurrence":
        events = Events.of(dataset.histories("train"))
        return CooccurrenceTeacher(events, len(dataset.items)), {"kind": kind}
    directory = context.teacher_dir
    if context.devices.is_main and not (directory / SASREC_FILE).is_file():
        context.reporter.note("teacher: training a SASRec")
        fitted = fit_sasrec(dataset, context.preset.sasrec, _told(context.reporter))
        save_sasrec(fitted, dataset, directory)
    context.devices.wait()
    fitted = load_sasrec(directory, dataset)
    _check_teacher(context, directory, fitted.model.config.max_length)
    settings = fitted.model.config.to_dict()
    if settings != context.preset.sasrec.to_dict():
        context.reporter.note(f"teacher: taken from {directory}, with settings of its own")
    teacher = SequenceTeacher(fitted, len(dataset.items))
    return teacher, {"kind": kind, "config": settings, **fitted.report}


def _check_teacher(context: PhaseContext, directory: Path, max_length: int) -> None:
    """Check that a SASRec can teach, and that it is the one the run began with.

    Raises:
        TrainingError: it reads shorter histories than the target.
        CheckpointError: the run began with another one.
    """
    longest = context.template.window.max_items
    if max_length < longest:
        raise TrainingError(
            f"the SASRec in {directory} reads {max_length} items, the target {longest}"
        )
    weights = (directory / WEIGHTS_FILE).read_bytes()
    digest, path = hashlib.sha256(weights).hexdigest(), context.work_dir / TEACHER_FILE
    if not context.devices.is_main:
        return
    if path.is_file() and read_json(path) != digest:
        raise CheckpointError(f"the run began with another teacher than the one in {directory}")
    write_json(path, digest)


def _told(reporter: Reporter) -> Callable[[float, str], None]:
    return lambda share, text: reporter.update("teacher", share, text)


def train_target(context: PhaseContext, teacher: Teacher | None) -> Mapping[str, Any]:
    """Train the target unless it is there; return its part of the report."""
    config = context.preset.target_phase

    def prepare() -> tuple[nn.Module, Objective[Batch]]:
        dataset = context.dataset
        model = build_model(context.preset.target, dataset.vocab_size, seed=context.seed)
        add_dropout(model, config.dropout)
        model.to(context.devices.device)
        validator = Validator(
            model,
            context.trie,
            _validation_set(context, config),
            context.devices,
            score_kind=context.score_kind,
            bf16=context.bf16,
        )
        weights = LabelWeights(config.label_smoothing, config.teacher)
        objective = TargetObjective(context.tables, teacher, weights, validator, bf16=context.bf16)
        return model, objective

    return _phase(context, "target", config, prepare)


def train_draft(context: PhaseContext) -> Mapping[str, Any]:
    """Train the draft unless it is there; return its part of the report."""
    config = context.preset.draft_phase

    def prepare() -> tuple[nn.Module, Objective[Batch]]:
        dataset, device = context.dataset, context.devices.device
        target = load_model(context.work_dir / "target").to(device)
        model = build_model(context.preset.draft, dataset.vocab_size, seed=context.seed + 1)
        add_dropout(model, config.dropout)
        model.to(device)
        objective = DraftObjective(
            model,
            target,
            context.trie,
            context.tables,
            ItemSampler(context.trie, dataset),
            _validation_set(context, config),
            context.devices,
            substitute=config.substitute,
            score_kind=context.score_kind,
            bf16=context.bf16,
        )
        return model, objective

    return _phase(context, "draft", config, prepare)


def _phase(
    context: PhaseContext,
    name: str,
    config: PhaseConfig,
    prepare: Callable[[], tuple[nn.Module, Objective[Batch]]],
) -> Mapping[str, Any]:
    return run_phase(_setup(context, name, config), context.seed, prepare)


def run_phase(
    setup: LoopSetup[AnyBatch],
    seed: int,
    prepare: Callable[[], tuple[nn.Module, Objective[AnyBatch]]],
) -> Mapping[str, Any]:
    """Run a phase unless its result exists; return its part of the report.

    The model is written to the work directory, below the phase's name.

    Args:
        setup: what the loop works with.
        seed: of whatever is drawn while training.
        prepare: makes the model and what it is trained for.
    """
    name, devices = setup.name, setup.devices
    result_path = setup.work_dir / f"{name}.json"
    if devices.broadcast(result_path.is_file()):
        setup.reporter.note(f"{name}: already trained")
        return dict(read_json(result_path))
    model, objective = prepare()
    # Processes draw different dropout masks; the first one draws those of a single process.
    torch.manual_seed(seed + 1000 * devices.rank)
    setup.reporter.note(f"{name}: {num_parameters(model):,} parameters")
    loop = TrainingLoop(setup, model, objective)
    result = loop.run()
    report = _phase_report(model, setup.config, result)
    if devices.is_main:
        save_model(model, setup.work_dir / name)
        write_json(result_path, report)
    devices.wait()
    return report


def _setup(context: PhaseContext, name: str, config: PhaseConfig) -> LoopSetup[Batch]:
    batches = BatchMaker(
        events=Events.of(context.dataset.histories("train")),
        paths=context.dataset.items.paths,
        max_items=context.template.window.max_items,
        batch_tokens=config.batch_tokens,
        drop=config.drop,
        jitter=config.jitter,
        # The two phases must not see the same shuffles.
        seed=context.seed * 2 + (name == "draft"),
    )
    return LoopSetup(
        name=name,
        config=config,
        batches=batches,
        work_dir=context.work_dir,
        devices=context.devices,
        reporter=context.reporter,
        should_stop=context.should_stop,
        checkpoint_every_s=context.checkpoint_every_s,
    )


def _validation_set(context: PhaseContext, config: PhaseConfig) -> ValidationSet:
    return make_validation_set(
        context.dataset, context.trie, context.template, config.validation_users, context.seed
    )


def _phase_report(model: nn.Module, config: PhaseConfig, result: PhaseResult) -> dict[str, Any]:
    state = result.state
    return {
        "parameters": num_parameters(model),
        "minutes": round(state.elapsed_s / 60.0, 2),
        "steps": state.step,
        "planned_steps": result.plan.steps,
        "stopped_early": result.stopped_early,
        "epochs": state.epoch,
        "tokens": state.tokens,
        "tokens_per_s": round(state.tokens / max(state.elapsed_s, 1e-9)),
        "train_loss": round(state.train_loss, 4),
        "best_step": state.best_step,
        "validation": next(r for r in state.history if r["step"] == state.best_step),
        "validations": state.history,
        "config": asdict(config),
    }
