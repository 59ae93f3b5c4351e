"""The whole run: a bundle in, the same bundle with an aligned draft out."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from specbeam.bundle import Bundle, check_destination, load_bundle
from specbeam.training.alignment.bundle_update import (
    CURVE_FILE,
    ENTRY,
    check_copyable,
    write_aligned_bundle,
)
from specbeam.training.alignment.config import AlignmentConfig
from specbeam.training.alignment.context import AlignmentContext, TeacherSettings
from specbeam.training.alignment.fit import (
    DEFAULT_DRAFTER,
    SCRATCH,
    check_drafter_name,
    check_fit,
    start_drafter,
)
from specbeam.training.alignment.phase import PHASE, make_teacher_data, train_aligned
from specbeam.training.alignment.settings import alignment_phase, most_held_out
from specbeam.training.curve import draw_curves
from specbeam.training.data.dataset import Dataset, require_semantic_ids
from specbeam.training.data.dataset_files import read_dataset
from specbeam.training.devices import Devices
from specbeam.training.errors import TrainingError
from specbeam.training.files import discard_directory
from specbeam.training.loop import CHECKPOINT_EVERY_S
from specbeam.training.precision import bf16_is_fast
from specbeam.training.presets import Preset
from specbeam.training.progress import Reporter, SilentReporter
from specbeam.training.stopping import stop_signals
from specbeam.training.work_dir import (
    is_report_of,
    prepare_work_dir,
    run_id_of,
    written_report,
)


@dataclass(frozen=True, slots=True)
class AlignmentRun:
    """What to align and where to put it.

    Attributes:
        dataset_dir: dataset directory.
        bundle_dir: bundle to write; the work directory lies beside it with the suffix `.work`.
        from_dir: bundle to start from.
        config: the loss.
        preset: shape of a new draft, hyperparameters of its training.
        minutes: budget of the training; None for no limit.
        steps: most optimiser steps; None for no limit.
        epochs: passes over the loss's data; the preset's if None.
        start: drafter to start from, or "scratch"; None takes "default" if there is one.
        drafter: name of the drafter that is written.
        teacher: how much teacher data there are.
        teacher_dir: where they lie; the work directory by default.
        seed: of weights, prompts and batches.
        resume: continue from the work directory.
        threads: torch threads; None leaves torch's choice.
        keep_work: leave the work directory when the bundle is written.
        checkpoint_every_s: seconds between checkpoints.
    """

    dataset_dir: Path
    bundle_dir: Path
    from_dir: Path
    config: AlignmentConfig
    preset: Preset
    minutes: float | None = None
    steps: int | None = None
    epochs: float | None = None
    start: str | None = None
    drafter: str = DEFAULT_DRAFTER
    teacher: TeacherSettings = field(default_factory=TeacherSettings)
    teacher_dir: Path | None = None
    seed: int = 0
    resume: bool = False
    threads: int | None = None
    keep_work: bool = False
    checkpoint_every_s: float = CHECKPOINT_EVERY_S

    @property
    def work_dir(self) -> Path:
        """Where checkpoints live until the bundle is written."""
        return self.bundle_dir.with_name(f"{self.bundle_dir.name}.work")


def align_bundle(run: AlignmentRun, reporter: Reporter) -> dict[str, Any]:
    """Align a draft and write the bundle that has it.

    A run that was killed at any point continues with `resume` and gives the same draft as one that
    was not.  With several processes every one of them calls this with the same arguments.

    Args:
        run: what to do.
        reporter: receives progress.

    Returns:
        The entry "alignment" of the bundle's report.json.

    Raises:
        BundleError: the bundle to start from is not usable, or something lies at the destination.
        DatasetError: the dataset directory is not usable.
        TeacherDataError: teacher data are damaged or of something else.
        CheckpointError: the work directory cannot be continued.
        TrainingError: the parts do not belong together, or the training diverged.
        StopRequested: interrupted; the work directory can be resumed.
    """
    dataset, bundle = _read(run)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    devices = Devices()
    with stop_signals() as should_stop:
        context = _context(run, dataset, bundle, devices, reporter, should_stop)
        identity = _identity(context)
        finished = _finished_entry(run, identity) if devices.is_main else None
        if (entry := devices.broadcast(finished)) is not None:
            reporter.note(f"{run.bundle_dir} was already written")
            return dict(entry)
        check_destination(run.bundle_dir)
        if devices.is_main:
            prepare_work_dir(run.work_dir, identity, resume=run.resume)
        devices.wait()
        entry = _work(context, run, identity)
    if devices.is_main:
        _write(context, run, entry)
        if not run.keep_work:
            discard_directory(run.work_dir)
    devices.wait()
    return entry


def _read(run: AlignmentRun) -> tuple[Dataset, Bundle]:
    """Read dataset and bundle and check that the run makes sense.

    Raises:
        TrainingError: it does not.
    """
    check_drafter_name(run.drafter)
    if run.bundle_dir.resolve() == run.from_dir.resolve():
        raise TrainingError("the new bundle cannot take the place of the one it is made from")
    dataset = read_dataset(run.dataset_dir)
    require_semantic_ids(dataset, str(run.dataset_dir))
    bundle = load_bundle(run.from_dir)
    check_copyable(bundle)
    check_fit(bundle, dataset, run.config)
    if not any(len(history) for history in dataset.histories("train")):
        raise TrainingError(f"dataset {dataset.name} has no train histories to make prompts of")
    if min(run.teacher.prompts, run.teacher.width, run.teacher.shard_prompts) < 1:
        raise TrainingError("prompts and beams must be positive")
    return dataset, bundle


def _context(
    run: AlignmentRun,
    dataset: Dataset,
    bundle: Bundle,
    devices: Devices,
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> AlignmentContext:
    start = start_drafter(bundle, run.start)
    phase = alignment_phase(
        run.preset,
        trained_start=start is not None,
        minutes=run.minutes,
        steps=run.steps,
        epochs=run.epochs,
    )
    return AlignmentContext(
        dataset=dataset,
        bundle=bundle,
        config=run.config,
        phase=replace(phase, validation_users=min(phase.validation_users, most_held_out(dataset))),
        teacher=run.teacher,
        teacher_dir=run.teacher_dir or run.work_dir / "teacher-data",
        start=start,
        draft_shape=run.preset.draft,
        seed=run.seed,
        bf16=bf16_is_fast(devices.device),
        work_dir=run.work_dir,
        devices=devices,
        reporter=reporter if devices.is_main else SilentReporter(),
        should_stop=should_stop,
        checkpoint_every_s=run.checkpoint_every_s,
    )


def _identity(context: AlignmentContext) -> dict[str, Any]:
    """Return what makes two runs the same run."""
    contents = context.bundle.manifest.contents
    drafter = f"drafters/{context.start}/"
    started_from = {k: v[1] for k, v in sorted(contents.items()) if k.startswith(drafter)}
    text = json.dumps(started_from).encode()
    described = {
        "source": asdict(context.source),
        "loss": asdict(context.config),
        "phase": asdict(context.phase),
        "prompts": context.teacher.prompts if context.config.needs_beams else 0,
        "start": context.start or SCRATCH,
        "start_digest": hashlib.blake2b(text, digest_size=16).hexdigest(),
        "draft_shape": asdict(context.draft_shape) if context.start is None else None,
        "seed": context.seed,
        "device": context.devices.device.type,
        "bf16": context.bf16,
        "processes": context.devices.size,
        "threads": torch.get_num_threads(),
    }
    return dict(json.loads(json.dumps(described)))


def _finished_entry(run: AlignmentRun, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the entry of a run that was killed after its bundle had been written."""
    if not run.resume:
        return None
    entry = (written_report(run.bundle_dir) or {}).get(ENTRY)
    if entry is None or not is_report_of(entry, run.work_dir, identity):
        return None
    if not run.keep_work and run.work_dir.exists():
        discard_directory(run.work_dir)
    return dict(entry)


def _work(
    context: AlignmentContext, run: AlignmentRun, identity: Mapping[str, Any]
) -> dict[str, Any]:
    """Make teacher data and draft; return the entry of the report."""
    teacher = make_teacher_data(context) if context.config.needs_beams else None
    report = train_aligned(context)
    return {
        "run": dict(identity),
        "run_id": run_id_of(context.work_dir),
        "drafter": run.drafter,
        "start": context.start or SCRATCH,
        **asdict(context.config),
        "teacher_data": teacher,
        "training": report,
    }


def _write(context: AlignmentContext, run: AlignmentRun, entry: Mapping[str, Any]) -> None:
    curve = context.work_dir / CURVE_FILE
    title = f"{context.bundle.manifest.name}, {run.config.loss}"
    draw_curves({PHASE: entry["training"]}, curve, title=title)
    model = context.work_dir / PHASE
    write_aligned_bundle(run.bundle_dir, context.bundle, run.drafter, model, curve, entry)
