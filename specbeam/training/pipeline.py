"""The whole run: target, draft, bundle."""

import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import nn

from specbeam.bundle import BundleParts, LevelTokens, PromptTemplate, write_bundle
from specbeam.catalog import ItemTrie
from specbeam.training.batches import BatchMaker
from specbeam.training.data.dataset import Dataset, require_semantic_ids
from specbeam.training.data.dataset_files import read_dataset, write_catalog
from specbeam.training.data.vocabulary import BOS_TOKEN_ID
from specbeam.training.draft_phase import DraftObjective
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.files import read_json, write_json
from specbeam.training.loop import PhaseResult, TrainingLoop
from specbeam.training.model import (
    add_dropout,
    bf16_is_fast,
    build_model,
    load_model,
    num_parameters,
    save_model,
)
from specbeam.training.presets import PhaseConfig, Preset
from specbeam.training.progress import Reporter
from specbeam.training.target_phase import TargetObjective
from specbeam.training.validation import make_validation_set

RUN_FILE = "run.json"
CATALOG_FILE = "catalog.parquet"
DEFAULT_DRAFTER = "default"


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What to train and where to put it.

    Attributes:
        dataset_dir: dataset directory.
        bundle_dir: bundle to write; the work directory lies beside it with the suffix `.work`.
        preset: shapes and budgets.
        seed: of weights, batches and samples.
        resume: continue from the work directory.
        threads: torch threads; None leaves torch's choice.
        name: bundle name; the dataset's by default.
        keep_work: leave the work directory when the bundle is written.
    """

    dataset_dir: Path
    bundle_dir: Path
    preset: Preset
    seed: int = 0
    resume: bool = False
    threads: int | None = None
    name: str | None = None
    keep_work: bool = False

    @property
    def work_dir(self) -> Path:
        """Where checkpoints live until the bundle is written."""
        return self.bundle_dir.with_name(f"{self.bundle_dir.name}.work")


@dataclass(frozen=True, slots=True)
class _Context:
    """What both phases share."""

    run: TrainingRun
    dataset: Dataset
    trie: ItemTrie
    template: PromptTemplate
    reporter: Reporter
    bf16: bool
    should_stop: Callable[[], bool]


def train_bundle(run: TrainingRun, reporter: Reporter) -> dict[str, Any]:
    """Train target and draft and write the bundle.

    Args:
        run: what to do.
        reporter: receives progress.

    Returns:
        The report that is also in the bundle's report.json.

    Raises:
        DatasetError: the dataset directory is not usable.
        CheckpointError: the work directory cannot be continued.
        TrainingError: there is something in the way.
        StopRequested: interrupted; the work directory can be resumed.
    """
    dataset = read_dataset(run.dataset_dir)
    require_semantic_ids(dataset, str(run.dataset_dir))
    _prepare_work_dir(run)
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    items = dataset.items
    trie = ItemTrie.build(
        items.paths,
        items.item_ids,
        items.popularity,
        tags=items.tag_rows(),
        created_at_ms=items.created_at_ms(),
    )
    template = PromptTemplate.of_codes((BOS_TOKEN_ID,))
    with _stop_signals() as should_stop:
        bf16 = bf16_is_fast()
        context = _Context(run, dataset, trie, template, reporter, bf16, should_stop)
        target = _phase(context, "target", run.preset.target_phase, _target_loop)
        draft = _phase(context, "draft", run.preset.draft_phase, _draft_loop)
    report = _report(context, {"target": target, "draft": draft})
    _write_bundle(context, report)
    if not run.keep_work:
        shutil.rmtree(run.work_dir)
    return report


def _prepare_work_dir(run: TrainingRun) -> None:
    """Create the work directory, or check that the existing one belongs to this run.

    The budgets are not part of a run's identity: a resumed run may be given more or less time.
    """
    identity = {
        "dataset": str(run.dataset_dir.resolve()),
        "preset": run.preset.name,
        "seed": run.seed,
        "target": asdict(run.preset.target),
        "draft": asdict(run.preset.draft),
    }
    path = run.work_dir / RUN_FILE
    if run.resume:
        if not path.is_file():
            raise CheckpointError(f"nothing to resume: {path} does not exist")
        found = read_json(path)
        different = [key for key, value in identity.items() if found.get(key) != value]
        if different:
            raise CheckpointError(
                f"{run.work_dir} belongs to a run with another {', '.join(different)}"
            )
        return
    if path.is_file():
        raise TrainingError(
            f"{run.work_dir} holds an unfinished run: continue it with --resume, or remove it"
        )
    run.work_dir.mkdir(parents=True, exist_ok=True)
    write_json(path, identity)


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT and SIGTERM into a question; a second signal acts at once.

    Outside the main thread, which alone may set handlers, the answer is always no.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    received: list[int] = []
    previous: dict[signal.Signals, Any] = {}

    def remember(number: int, _frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, remember)
        yield lambda: bool(received)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _phase(
    context: _Context,
    name: str,
    config: PhaseConfig,
    make_loop: Callable[[_Context, PhaseConfig], tuple[nn.Module, TrainingLoop]],
) -> Mapping[str, Any]:
    """Run a phase unless its result exists; return its part of the report."""
    result_path = context.run.work_dir / f"{name}.json"
    if result_path.is_file():
        context.reporter.note(f"{name}: already trained")
        return dict(read_json(result_path))
    torch.manual_seed(context.run.seed)
    model, loop = make_loop(context, config)
    context.reporter.note(f"{name}: {num_parameters(model):,} parameters")
    result = loop.run()
    save_model(model, context.run.work_dir / name)
    report = _phase_report(model, result)
    write_json(result_path, report)
    return report


def _batches(context: _Context, config: PhaseConfig, seed: int) -> BatchMaker:
    histories = [items for items in context.dataset.histories("train") if len(items)]
    return BatchMaker(
        histories=histories,
        paths=context.dataset.items.paths,
        template=context.template,
        batch_tokens=config.batch_tokens,
        augment=config.augment,
        seed=seed,
    )


def _target_loop(context: _Context, config: PhaseConfig) -> tuple[nn.Module, TrainingLoop]:
    run, dataset = context.run, context.dataset
    model = build_model(run.preset.target, dataset.vocab_size, seed=run.seed)
    add_dropout(model, config.dropout)
    users = make_validation_set(
        dataset, context.trie, context.template, config.validation_users, run.seed
    )
    objective = TargetObjective(
        model,
        context.trie,
        dataset.items.paths,
        users,
        vocab_size=dataset.vocab_size,
        label_smoothing=config.label_smoothing,
        bf16=context.bf16,
    )
    return model, _loop(context, "target", model, objective, config)


def _draft_loop(context: _Context, config: PhaseConfig) -> tuple[nn.Module, TrainingLoop]:
    run, dataset = context.run, context.dataset
    target = load_model(run.work_dir / "target")
    model = build_model(run.preset.draft, dataset.vocab_size, seed=run.seed + 1)
    add_dropout(model, config.dropout)
    users = make_validation_set(
        dataset, context.trie, context.template, config.validation_users, run.seed
    )
    objective = DraftObjective(
        model, target, context.trie, users, substitute=config.substitute, bf16=context.bf16
    )
    return model, _loop(context, "draft", model, objective, config)


def _loop(
    context: _Context,
    name: str,
    model: nn.Module,
    objective: TargetObjective | DraftObjective,
    config: PhaseConfig,
) -> TrainingLoop:
    # The two phases must not see the same shuffles.
    seed = context.run.seed * 2 + (name == "draft")
    return TrainingLoop(
        name,
        model,
        objective,
        _batches(context, config, seed),
        config,
        checkpoint_dir=context.run.work_dir / f"{name}.checkpoint",
        reporter=context.reporter,
        should_stop=context.should_stop,
    )


def _phase_report(model: nn.Module, result: PhaseResult) -> dict[str, Any]:
    state = result.state
    return {
        "parameters": num_parameters(model),
        "minutes": round(state.elapsed_s / 60.0, 2),
        "steps": state.step,
        "epochs": state.epoch,
        "tokens": state.tokens,
        "tokens_per_s": round(result.tokens_per_s),
        "train_loss": round(state.train_loss, 4),
        "best_step": state.best_step,
        "validation": next(r for r in state.history if r["step"] == state.best_step),
        "validations": state.history,
    }


def _report(context: _Context, phases: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    run = context.run
    return {
        "preset": run.preset.name,
        "seed": run.seed,
        "bf16": context.bf16,
        "threads": torch.get_num_threads(),
        "dataset": {"name": context.dataset.name, **context.dataset.counts()},
        "training": {
            "target": {**asdict(run.preset.target), **phases["target"]},
            "draft": {**asdict(run.preset.draft), **phases["draft"]},
        },
    }


def _write_bundle(context: _Context, report: Mapping[str, Any]) -> None:
    run, dataset = context.run, context.dataset
    items_file = run.work_dir / CATALOG_FILE
    write_catalog(dataset.items, items_file)
    parts = BundleParts(
        name=run.name or dataset.name,
        trie=context.trie,
        template=context.template,
        levels=tuple(LevelTokens(lv.name, ((lv.token_offset, lv.size),)) for lv in dataset.levels),
        vocab_size=dataset.vocab_size,
        target_dir=run.work_dir / "target",
        drafters={DEFAULT_DRAFTER: run.work_dir / "draft"},
        items_file=items_file,
        report=report,
    )
    write_bundle(run.bundle_dir, parts)
