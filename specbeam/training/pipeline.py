"""The whole run: target, draft, bundle."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from specbeam.bundle import (
    BundleParts,
    LevelTokens,
    PromptTemplate,
    check_destination,
    write_bundle,
)
from specbeam.catalog import ItemTrie
from specbeam.training.choices import TrainedScoreKind, make_tables
from specbeam.training.curve import draw_curves
from specbeam.training.data.dataset import Dataset, require_semantic_ids
from specbeam.training.data.dataset_files import read_dataset, write_catalog
from specbeam.training.data.vocabulary import BOS_TOKEN_ID
from specbeam.training.devices import Devices
from specbeam.training.errors import TrainingError
from specbeam.training.files import discard_directory
from specbeam.training.loop import CHECKPOINT_EVERY_S
from specbeam.training.phases import PhaseContext, make_teacher, train_draft, train_target
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

CATALOG_FILE = "catalog.parquet"
CURVE_FILE = "training.svg"
DEFAULT_DRAFTER = "default"
_COLUMNS = ("user", "item", "split")


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What to train and where to put it.

    Attributes:
        dataset_dir: dataset directory.
        bundle_dir: bundle to write; the work directory lies beside it with the suffix `.work`.
        preset: shapes and budgets.
        score_kind: convention of the bundle's scores, and so of the training.
        seed: of weights, batches and samples.
        resume: continue from the work directory.
        threads: torch threads; None leaves torch's choice.
        name: bundle name; the dataset's by default.
        keep_work: leave the work directory when the bundle is written.
        checkpoint_every_s: seconds between checkpoints.
        teacher_dir: where a SASRec teacher is read from, or kept after it has been trained; the
            work directory by default.
    """

    dataset_dir: Path
    bundle_dir: Path
    preset: Preset
    score_kind: TrainedScoreKind = "TRIE"
    seed: int = 0
    resume: bool = False
    threads: int | None = None
    name: str | None = None
    keep_work: bool = False
    checkpoint_every_s: float = CHECKPOINT_EVERY_S
    teacher_dir: Path | None = None

    @property
    def work_dir(self) -> Path:
        """Where checkpoints live until the bundle is written."""
        return self.bundle_dir.with_name(f"{self.bundle_dir.name}.work")


def train_bundle(run: TrainingRun, reporter: Reporter) -> dict[str, Any]:
    """Train target and draft and write the bundle.

    A run that was killed at any point continues with `resume` and gives the same models as one that
    was not.  With several processes every one of them calls this with the same arguments.

    Args:
        run: what to do.
        reporter: receives progress.

    Returns:
        The report that is also in the bundle's report.json.

    Raises:
        DatasetError: the dataset directory is not usable.
        CheckpointError: the work directory cannot be continued.
        TrainingError: there is something in the way, or the training diverged.
        StopRequested: interrupted; the work directory can be resumed.
    """
    dataset = read_dataset(run.dataset_dir)
    require_semantic_ids(dataset, str(run.dataset_dir))
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    devices = Devices()
    identity = _identity(run, dataset, devices)
    finished = _finished_report(run, identity) if devices.is_main else None
    if (report := devices.broadcast(finished)) is not None:
        reporter.note(f"{run.bundle_dir} was already written")
        return dict(report)
    check_destination(run.bundle_dir)
    if devices.is_main:
        prepare_work_dir(run.work_dir, identity, resume=run.resume)
    devices.wait()
    with stop_signals() as should_stop:
        context = _context(run, dataset, devices, reporter, should_stop)
        teacher, taught = make_teacher(context)
        phases = {"target": train_target(context, teacher), "draft": train_draft(context)}
    report = {**_report(context, run, identity, phases), "teacher": taught}
    if devices.is_main:
        _write_bundle(context, run, report)
        if not run.keep_work:
            discard_directory(run.work_dir)
    devices.wait()
    return report


def _context(
    run: TrainingRun,
    dataset: Dataset,
    devices: Devices,
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> PhaseContext:
    items = dataset.items
    if dataset.counts()["semantic_ids"] < 2:
        raise TrainingError("all items have the same semantic ID: there is nothing to choose from")
    trie = ItemTrie.build(
        items.paths,
        items.item_ids,
        items.popularity,
        tags=items.tag_rows(),
        created_at_ms=items.created_at_ms(),
    )
    return PhaseContext(
        dataset=dataset,
        trie=trie,
        tables=make_tables(run.score_kind, trie, dataset),
        template=PromptTemplate.of_codes((BOS_TOKEN_ID,)),
        preset=run.preset,
        score_kind=run.score_kind,
        seed=run.seed,
        bf16=bf16_is_fast(devices.device),
        work_dir=run.work_dir,
        teacher_dir=run.teacher_dir or run.work_dir / "teacher",
        devices=devices,
        reporter=reporter if devices.is_main else SilentReporter(),
        should_stop=should_stop,
        checkpoint_every_s=run.checkpoint_every_s,
    )


def _identity(run: TrainingRun, dataset: Dataset, devices: Devices) -> dict[str, Any]:
    """Return what makes two runs the same run."""
    digest = hashlib.sha256()
    for array in (dataset.items.paths, *(getattr(dataset.interactions, n) for n in _COLUMNS)):
        digest.update(array.tobytes())
    return {
        "dataset": digest.hexdigest(),
        "preset": json.loads(json.dumps(asdict(run.preset))),
        "score_kind": run.score_kind,
        "seed": run.seed,
        "device": devices.device.type,
        "bf16": bf16_is_fast(devices.device),
        "processes": devices.size,
        "threads": torch.get_num_threads(),
    }


def _finished_report(run: TrainingRun, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the report of a run that was killed after its bundle had been written."""
    if not run.resume:
        return None
    report = written_report(run.bundle_dir)
    if report is None or not is_report_of(report, run.work_dir, identity):
        return None
    if not run.keep_work and run.work_dir.exists():
        discard_directory(run.work_dir)
    return report


def _report(
    context: PhaseContext,
    run: TrainingRun,
    identity: Mapping[str, Any],
    phases: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    preset = run.preset
    return {
        "run": dict(identity),
        "run_id": run_id_of(run.work_dir),
        "preset": preset.name,
        "score_kind": run.score_kind,
        "seed": run.seed,
        "device": str(context.devices.device),
        "processes": context.devices.size,
        "threads": torch.get_num_threads(),
        "bf16": context.bf16,
        "dataset": {"name": context.dataset.name, **context.dataset.counts()},
        "training": {
            "target": {"shape": asdict(preset.target), **phases["target"]},
            "draft": {"shape": asdict(preset.draft), **phases["draft"]},
        },
    }


def _write_bundle(context: PhaseContext, run: TrainingRun, report: Mapping[str, Any]) -> None:
    dataset, work = context.dataset, context.work_dir
    items_file, curve_file = work / CATALOG_FILE, work / CURVE_FILE
    write_catalog(dataset.items, items_file)
    draw_curves(report["training"], curve_file, title=f"{dataset.name}, preset {run.preset.name}")
    parts = BundleParts(
        name=run.name or dataset.name,
        trie=context.trie,
        template=context.template,
        levels=tuple(LevelTokens(lv.name, ((lv.token_offset, lv.size),)) for lv in dataset.levels),
        vocab_size=dataset.vocab_size,
        target_dir=work / "target",
        drafters={DEFAULT_DRAFTER: work / "draft"},
        items_file=items_file,
        extra_files=(curve_file,),
        report=report,
        score_kind=run.score_kind,
    )
    write_bundle(run.bundle_dir, parts)
