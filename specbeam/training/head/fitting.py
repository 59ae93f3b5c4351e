"""A whole run: from a bundle and a dataset to a root head's directory."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from specbeam.bundle import Bundle
from specbeam.engine.root_head import RootHead
from specbeam.engine.root_head_blocks import StateBlocks
from specbeam.engine.root_head_files import RootHeadConfig, save_root_head
from specbeam.training.batches import BatchMaker, Events
from specbeam.training.choices import TrainedScoreKind, make_tables
from specbeam.training.data.dataset import Dataset
from specbeam.training.devices import Devices
from specbeam.training.draft_phase import ItemSampler
from specbeam.training.errors import CheckpointError, TrainingError
from specbeam.training.files import discard_directory, new_directory, read_json, write_json
from specbeam.training.head.checks import check_parts
from specbeam.training.head.config import HeadConfig
from specbeam.training.head.coverage import CELLS, CoverageProbe, open_target
from specbeam.training.head.objective import HeadObjective
from specbeam.training.head.teacher import HeadTeacher
from specbeam.training.loop import LoopSetup, PhaseResult, TrainingLoop
from specbeam.training.model import num_parameters
from specbeam.training.precision import bf16_is_fast
from specbeam.training.progress import Reporter, SilentReporter
from specbeam.training.stopping import stop_signals
from specbeam.training.validation import make_validation_set

RUN_FILE = "run.json"
REPORT_FILE = "report.json"
PHASE = "head"
DEFAULT_CONFIG = HeadConfig()
# What a bundle's report keeps of the validation.
_KEPT = ("node_share", *(cell.name for cell in CELLS))


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a run works with.

    Attributes:
        bundle: holds the target.
        dataset: histories.
        config: what is trained, and how.
        levels: deepest level that is drafted.
        devices: this process and the others.
        reporter: receives progress.
    """

    bundle: Bundle
    dataset: Dataset
    config: HeadConfig
    levels: int
    devices: Devices
    reporter: Reporter


def add_to_bundle(
    bundle: Bundle, dataset: Dataset, directory: Path, reporter: Reporter
) -> Mapping[str, Any]:
    """Train a head for `specbeam bundle add-drafter` and return its main figures.

    A kill loses the training here: who wants to resume calls `train_head`.
    """
    with stop_signals() as should_stop:
        report = train_head(
            bundle, dataset, directory, DEFAULT_CONFIG, reporter, should_stop=should_stop
        )
    plain = ("parameters", "levels", "minutes", "steps", "best_step")
    validation = {key: report["validation"][key] for key in _KEPT if key in report["validation"]}
    return {**{key: report[key] for key in plain}, **validation}


def train_head(
    bundle: Bundle,
    dataset: Dataset,
    directory: Path,
    config: HeadConfig = DEFAULT_CONFIG,
    reporter: Reporter | None = None,
    *,
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train a root head for a bundle's target.

    The work directory lies beside `directory` with the suffix `.work`; a run that was killed at any
    point continues with `resume` and gives the weights of one that was not.

    Args:
        bundle: its target is the teacher; nothing in it is changed.
        dataset: histories over the bundle's items.
        directory: the head's, to be made; it must not exist.
        config: what is trained, and how.
        reporter: receives progress.
        resume: continue from the work directory.
        should_stop: asked after every step; true leads to a checkpoint and StopRequested.

    Returns:
        Sizes, figures of the training and measured coverage, as JSON values.

    Raises:
        TrainingError: bundle and dataset do not fit each other or the method, there is something in
            the way, or the training diverged.
        CheckpointError: the work directory cannot be continued.
        StopRequested: `should_stop` said so.
    """
    if directory.exists():
        raise TrainingError(f"{directory} already exists; choose another path")
    devices = Devices()
    told = reporter if reporter is not None and devices.is_main else SilentReporter()
    levels = min(bundle.trie.depth - 1, config.max_levels)
    check_parts(bundle, dataset)
    parts = _Parts(bundle, dataset, config, levels, devices, told)
    work = directory.with_name(f"{directory.name}.work")
    if devices.is_main:
        _prepare_work_dir(work, _identity(parts), resume=resume)
    devices.wait()
    shape, blocks = _new_blocks(parts)
    report = _train(parts, shape, blocks, work, should_stop)
    if devices.is_main:
        with new_directory(directory) as scratch:
            save_root_head(scratch, shape, blocks)
            write_json(scratch / REPORT_FILE, report)
        discard_directory(work)
    devices.wait()
    return report


def _identity(parts: _Parts) -> dict[str, Any]:
    """Return what makes two runs the same run."""
    interactions = parts.dataset.interactions
    digest = hashlib.sha256()
    for array in (interactions.user, interactions.item, interactions.split):
        digest.update(array.tobytes())
    device = parts.devices.device
    return {
        "dataset": digest.hexdigest(),
        "bundle": asdict(parts.bundle.manifest.fingerprints),
        "score_kind": parts.bundle.manifest.score_kind,
        "config": json.loads(json.dumps(asdict(parts.config))),
        "device": device.type,
        "bf16": bf16_is_fast(device),
        "processes": parts.devices.size,
        "threads": torch.get_num_threads(),
    }


def _prepare_work_dir(work: Path, identity: Mapping[str, Any], *, resume: bool) -> None:
    """Make the work directory, or check that the existing one belongs to this run."""
    path = work / RUN_FILE
    if not resume:
        if work.exists():
            raise TrainingError(f"{work} holds an unfinished run: resume it, or remove it")
        with new_directory(work) as scratch:  # it never lacks its run.json
            write_json(scratch / RUN_FILE, identity)
        return
    if not path.is_file():
        raise CheckpointError(f"nothing to resume: {path} does not exist")
    found = read_json(path)
    different = [key for key, value in identity.items() if found.get(key) != value]
    if different:
        raise CheckpointError(f"{work} belongs to a run with another {', '.join(different)}")


def _new_blocks(parts: _Parts) -> tuple[RootHeadConfig, StateBlocks]:
    """Return untrained blocks for the bundle's target."""
    manifest, config = parts.bundle.manifest, parts.config
    hidden = int(read_json(parts.bundle.target_dir / "config.json")["hidden_size"])
    shape = RootHeadConfig(
        hidden, manifest.vocab_size, parts.levels, config.bottleneck, manifest.fingerprints.model
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return shape, shape.make_blocks()


def _train(
    parts: _Parts,
    shape: RootHeadConfig,
    blocks: StateBlocks,
    work: Path,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train the blocks in place and return the report."""
    devices, phase = parts.devices, parts.config.phase
    blocks.to(devices.device)
    objective = _objective(parts, shape, blocks)
    setup = LoopSetup(
        name=PHASE,
        config=phase,
        batches=BatchMaker(
            events=Events.of(parts.dataset.histories("train")),
            paths=parts.dataset.items.paths,
            max_items=parts.bundle.template.window.max_items,
            batch_tokens=phase.batch_tokens,
            drop=phase.drop,
            jitter=phase.jitter,
            seed=parts.config.seed,
        ),
        work_dir=work,
        devices=devices,
        reporter=parts.reporter,
        should_stop=should_stop,
    )
    torch.manual_seed(parts.config.seed + 1000 * devices.rank)
    parts.reporter.note(f"{PHASE}: {num_parameters(blocks):,} parameters")
    result = TrainingLoop(setup, blocks, objective).run()
    return _report(parts, blocks, result)


def _objective(parts: _Parts, shape: RootHeadConfig, blocks: StateBlocks) -> HeadObjective:
    bundle, dataset, phase = parts.bundle, parts.dataset, parts.config.phase
    model = open_target(bundle, parts.devices.device)
    users = make_validation_set(
        dataset, bundle.trie, bundle.template, phase.validation_users, parts.config.seed
    )
    probe = CoverageProbe(RootHead(shape, blocks, model), model, users.prompts, parts.devices)
    # LEVEL and VOCAB share their laws up to the normaliser, so one is taught by the other.
    kind: TrainedScoreKind = "TRIE" if bundle.manifest.score_kind == "TRIE" else "VOCAB"
    return HeadObjective(
        HeadTeacher(bundle, parts.devices.device, bf16=bf16_is_fast(parts.devices.device)),
        make_tables(kind, bundle.trie, dataset),
        ItemSampler(bundle.trie, dataset),
        probe,
        parts.devices,
        levels=parts.levels,
        branches=min(parts.config.branches, bundle.trie.levels[1].num_nodes),
    )


def _report(parts: _Parts, blocks: StateBlocks, result: PhaseResult) -> dict[str, Any]:
    state = result.state
    return {
        "kind": "head",
        "parameters": num_parameters(blocks),
        "levels": parts.levels,
        "minutes": round(state.elapsed_s / 60.0, 2),
        "steps": state.step,
        "planned_steps": result.plan.steps,
        "stopped_early": result.stopped_early,
        "epochs": state.epoch,
        "train_loss": round(state.train_loss, 4),
        "best_step": state.best_step,
        "validation": next(r for r in state.history if r["step"] == state.best_step),
        "validations": state.history,
        "threads": torch.get_num_threads(),
        "dataset": parts.dataset.name,
        "config": asdict(parts.config),
    }
