"""Measure what the losses of `specbeam train --align` do for coverage.

usage: PYTHONPATH=. python benchmarks/align_drafts.py DATASET BUNDLE --work DIR --out FILE.json

All drafts start from the same new weights and get the same number of optimiser steps.  A variant is
one or more stages joined by `>`, which share the steps evenly; a stage is a loss with settings, as
in `distillation>atspeed-s:temperature=0.3,alpha=0.7`.  Later stages start at a third of the
learning rate.  Settings are to be chosen by the validation figures; the test users say how much a
choice is worth.  A killed run goes on when it is started again with the same --work.
"""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from specbeam.benchmark.conditions import conditions
from specbeam.bundle import Bundle, load_bundle
from specbeam.training.alignment.config import AlignmentConfig, make_config
from specbeam.training.alignment.context import TeacherSettings
from specbeam.training.alignment.coverage import Cell, CoverageJudge, Covered, cells_of
from specbeam.training.alignment.fit import SCRATCH, load_target, make_draft, score_kind_of
from specbeam.training.alignment.run import AlignmentRun, align_bundle
from specbeam.training.data.dataset_files import read_dataset
from specbeam.training.evaluation.bootstrap import INTERVAL, RESAMPLES, intervals, resampled_means
from specbeam.training.evaluation.users import evaluation_users
from specbeam.training.presets import get_preset
from specbeam.training.progress import ConsoleReporter

VARIANTS = (
    "distillation",
    "ce",
    "word-kd",
    "tvd-kd",
    "seq-kd",
    "distillation>distillation",
    "distillation>atspeed-s",
    "distillation>atspeed-r",
    "distillation>row-kl",
    "distillation>beam-kl",
)
REFERENCE = "distillation"
CELLS = cells_of((5, 10, 20), (1, 2, 4, 8))
_NUMBERS = {"alpha": float, "temperature": float, "top_k": int, "on_policy": float}


def main() -> None:
    """Train every variant, measure all of them on the same users, write the result."""
    options = _options()
    torch.set_num_threads(options.threads)
    bundle = load_bundle(options.bundle)
    reporter = ConsoleReporter(Console(stderr=True, highlight=False))
    entries: dict[str, Any] = {}
    drafts: dict[str, nn.Module] = {}
    for variant in options.variants:
        reporter.note(f"== {variant}")
        made, reports = train_variant(variant, options, reporter)
        entries[variant] = reports
        drafts[variant] = _draft_of(load_bundle(made))
    if "default" in bundle.manifest.drafters:
        drafts["the bundle's own"] = _draft_of(bundle)
    covered = measure(bundle, drafts, options)
    result = {
        "conditions": {
            **conditions(),
            "threads": options.threads,
            "dataset": read_dataset(options.dataset).name,
            "score_kind": bundle.manifest.score_kind,
            "steps": options.steps,
            "prompts": options.prompts,
            "seed": options.seed,
            "test_users": options.users,
            "bootstrap": {"resamples": RESAMPLES, "percentiles": list(INTERVAL)},
        },
        "training": {variant: _training(reports) for variant, reports in entries.items()},
        "coverage": figures(covered),
    }
    _finish(result, options)


def train_variant(
    variant: str, options: argparse.Namespace, reporter: ConsoleReporter
) -> tuple[Path, list[dict[str, Any]]]:
    """Return the bundle of a variant and the reports of its stages; finished stages are kept."""
    stages = variant.split(">")
    source, start, reports = options.bundle, SCRATCH, []
    for number, stage in enumerate(stages):
        folder = _folder(options, stages[: number + 1], len(stages))
        run = AlignmentRun(
            dataset_dir=options.dataset,
            bundle_dir=folder,
            from_dir=source,
            config=parse_stage(stage),
            preset=get_preset(options.preset),
            steps=options.steps // len(stages),
            epochs=1e6,  # the steps alone count
            start=start,
            drafter="aligned",
            teacher=TeacherSettings(prompts=options.prompts),
            teacher_dir=options.teacher_data or options.work / "teacher-data",
            seed=options.seed,
            threads=options.threads,
            resume=folder.exists() or (folder.with_name(f"{folder.name}.work")).exists(),
        )
        reports.append(align_bundle(run, reporter))
        source, start = folder, "aligned"
    return source, reports


def _folder(options: argparse.Namespace, stages: list[str], total: int) -> Path:
    """Return where the bundle of a variant's first stages lies."""
    settings = (options.preset, options.steps, options.prompts, options.seed, total, *stages)
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:8]
    name = re.sub(r"[^a-z0-9.]+", "-", "-".join(stages))
    return Path(options.work) / f"{name}-{digest}"


def parse_stage(text: str) -> AlignmentConfig:
    """Return the configuration of a stage such as `atspeed-s:temperature=0.3,alpha=0.7`."""
    loss, _, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, _, value = part.partition("=")
        settings[name] = _NUMBERS[name](value) if name in _NUMBERS else value or True
    return make_config(loss, **settings)


def measure(
    bundle: Bundle, drafts: Mapping[str, nn.Module], options: argparse.Namespace
) -> dict[str, Covered]:
    """Return what each draft covers of the same test users."""
    dataset = read_dataset(options.dataset)
    order = bundle.trie.index_of(dataset.items.item_ids)
    users = evaluation_users(dataset, "test", options.users, seed=options.seed)
    prompts = [bundle.template.render(bundle.trie.paths(order[u.history])) for u in users]
    judge = CoverageJudge(load_target(bundle), bundle.trie, prompts, score_kind_of(bundle), CELLS)
    return {name: judge.measure(draft.eval()) for name, draft in drafts.items()}


def figures(covered: Mapping[str, Covered]) -> dict[str, Any]:
    """Return coverage by draft and cell, and the paired differences to distillation."""
    names = list(covered)
    found: dict[str, Any] = {name: {} for name in names}
    for cell in (*CELLS, None):
        values = np.stack([_values(covered[name], cell) for name in names], axis=1)
        differences = values - values[:, [names.index(REFERENCE)]]
        columns = np.concatenate([values, differences], axis=1)
        bounds = intervals(columns, resampled_means(columns))
        for place, name in enumerate(names):
            found[name][str(cell or "mean")] = {
                "coverage": bounds[place].to_dict(),
                f"minus {REFERENCE}": bounds[len(names) + place].to_dict(),
            }
    return found


def _values(covered: Covered, cell: Cell | None) -> np.ndarray:
    """Return one number per user: whether a cell is covered, or the share of cells that are."""
    cells = CELLS if cell is None else (cell,)
    return np.asarray(np.mean([covered.whole[one].astype(np.float64) for one in cells], axis=0))


def _draft_of(bundle: Bundle) -> nn.Module:
    name = "aligned" if "aligned" in bundle.manifest.drafters else "default"
    return make_draft(bundle, name, get_preset("small").draft, seed=0)


def _training(reports: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what is worth keeping of the stages' reports."""
    kept = ("loss", "base", "alpha", "temperature", "top_k", "on_policy", "teacher_data")
    trained = ("steps", "best_step", "stopped_early", "minutes", "train_loss", "validation")
    return [
        {**{name: report[name] for name in kept}, **{n: report["training"][n] for n in trained}}
        for report in reports
    ]


def _finish(result: dict[str, Any], options: argparse.Namespace) -> None:
    text = json.dumps(result, indent=2) + "\n"
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)
    if options.json:
        sys.stdout.write(text)
        return
    console = Console(highlight=False, width=120)
    for name, cells in result["coverage"].items():
        mean, difference = cells["mean"]["coverage"], cells["mean"][f"minus {REFERENCE}"]
        console.print(
            f"{name:55} {mean['mean']:.3f}   {difference['mean']:+.3f} "
            f"[{difference['low']:+.3f}, {difference['high']:+.3f}]"
        )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="dataset directory")
    parser.add_argument("bundle", type=Path, help="bundle with the target")
    parser.add_argument("--work", type=Path, required=True, help="keeps drafts and teacher data")
    parser.add_argument("--teacher-data", type=Path, help="elsewhere than below --work")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--preset", default="small", help="shape and hyperparameters of the drafts")
    parser.add_argument("--steps", type=int, default=800, help="optimiser steps of each variant")
    parser.add_argument("--prompts", type=int, default=4096, help="prompts of the teacher data")
    parser.add_argument("--users", type=int, default=500, help="test users")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="write the result here")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    options = parser.parse_args()
    if REFERENCE not in options.variants:
        parser.error(f"--variants must contain {REFERENCE}, which the others are compared with")
    options.work.mkdir(parents=True, exist_ok=True)
    return options


if __name__ == "__main__":
    main()
