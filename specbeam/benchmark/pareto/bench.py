"""The table: K by row budget by prefix, every way beside plain search on the same requests."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.drafters.cases import DraftCase
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.pareto.contestants import Contestant, ablations, contestants
from specbeam.benchmark.settings import COLD, PREFIXES, Knowledge, Setting, sources_of
from specbeam.benchmark.speculation import Outcome, hold_prompt
from specbeam.decoding.costs import CostTable
from specbeam.drafting.prices import Prices

Progress = Callable[[str], None]
Save = Callable[[dict[str, Any]], None]
_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class ParetoSpec:
    """What is measured.

    Attributes:
        widths: values of K (= W).
        rows: row budgets of trees of fixed size; the largest is that of chosen trees.
        prefixes: of `speculation.PREFIXES`.
        ablation: K whose ingredients are left out one by one; 0 = none.
        threads: torch threads.
        dtype: of all models.
        seed: of users and order.
    """

    widths: tuple[int, ...] = (1, 3, 5, 10, 20, 50)
    rows: tuple[int, ...] = (32, 64, 128, 256, 512)
    prefixes: tuple[str, ...] = PREFIXES
    ablation: int = 0
    threads: int = 2
    dtype: str = "fp32"
    seed: int = 0


def run_pareto(
    models: DraftModels,
    warm: Sequence[DraftCase],
    cases: Sequence[DraftCase],
    table: CostTable,
    spec: ParetoSpec,
    progress: Progress,
    save: Save = lambda result: None,
) -> dict[str, Any]:
    """Measure every cell.

    Ways that learn do so on other users first. Then all ways answer each request one after another,
    in random order; times are compared request by request.

    Args:
        models: what to run.
        warm: requests to learn from.
        cases: requests that are measured.
        table: what passes of the target cost.
        spec: what is measured.
        progress: called with a line per way and cell.
        save: called with the result so far after each cell.
    """
    result: dict[str, Any] = {
        "what": "plain search, trees of fixed size, chosen trees, auto",
        "conditions": conditions(
            bundle=models.bundle.manifest.name,
            score_kind=models.bundle.manifest.score_kind,
            users=len(cases),
            learned_from=len(warm),
            mean_prompt=float(np.mean([len(case.prompt) for case in cases])),
            **asdict(spec),
        ),
        "target": _target(models),
        "pass_ms": {str(rows): float(table.ms(rows, 30)) for rows in (1, *spec.rows)},
        "cells": [],
    }
    order = random.Random(spec.seed)
    sources = sources_of(models.names())
    for prefix in spec.prefixes:
        for width in spec.widths:
            setting = Setting(width, prefix, max(spec.rows), sources)
            ways = contestants(setting, spec.rows, lambda: Knowledge(Prices(table)))
            found = _measure(models, warm, cases, ways, order)
            result["cells"] += _cells(setting, ways, found, progress)
            save(result)
    if spec.ablation:
        setting = Setting(spec.ablation, spec.prefixes[0], max(spec.rows), sources)
        ways = ablations(setting, lambda: Knowledge(Prices(table)))
        found = _measure(models, warm, cases, ways, order)
        result["ablation"] = _cells(setting, ways, found, progress)
        save(result)
    return result


def _target(models: DraftModels) -> dict[str, Any]:
    """Return what the target is; a widened one says so."""
    bundle = models.bundle
    try:
        report = json.loads((bundle.path / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        report = {}
    widened = report.get("widened")
    return {"bundle": bundle.manifest.name, **({"widened": widened} if widened else {})}


def _measure(
    models: DraftModels,
    warm: Sequence[DraftCase],
    cases: Sequence[DraftCase],
    ways: Sequence[Contestant],
    order: random.Random,
) -> list[list[Outcome]]:
    """Return the outcomes of each way, request by request."""
    for case in warm:
        _prepare(models, case, ways[0].setting)
        for way in ways:
            if way.learns:
                way.search(models, case)
    for way in ways:
        way.picks.clear()
        _prepare(models, cases[0], way.setting)
        way.search(models, cases[0])  # warms up what does not learn
        way.picks.clear()
    found: list[list[Outcome]] = [[] for _ in ways]
    for case in cases:
        _prepare(models, case, ways[0].setting)
        for number in order.sample(range(len(ways)), len(ways)):
            found[number].append(ways[number].search(models, case))
    return found


def _prepare(models: DraftModels, case: DraftCase, setting: Setting) -> None:
    if setting.prefix != COLD:
        hold_prompt(models, case)


def _cells(
    setting: Setting,
    ways: Sequence[Contestant],
    found: Sequence[Sequence[Outcome]],
    progress: Progress,
) -> list[dict[str, Any]]:
    cells = []
    for way, outcomes in zip(ways, found, strict=True):
        cell = _cell(setting, way, outcomes, found[0])
        cells.append(cell)
        low, high = cell["speedup_95"]
        progress(
            f"{setting.prefix}, K = {setting.width}, {way.name} ({cell['max_rows']} rows at most): "
            f"{cell['ms']:.1f} ms, "
            f"{cell['speedup']:.3f} x A1 [{low:.3f}, {high:.3f}], {cell['passes']:.2f} passes, "
            f"{cell['rows']:.0f} rows"
        )
    return cells


def _cell(
    setting: Setting, way: Contestant, outcomes: Sequence[Outcome], plain: Sequence[Outcome]
) -> dict[str, Any]:
    depth_reached = np.array([one.reached for one in outcomes])
    ratios = np.array([b.ms / a.ms for a, b in zip(outcomes, plain, strict=True)])
    same = [np.array_equal(a.leaves, b.leaves) for a, b in zip(outcomes, plain, strict=True)]
    common = [
        len(np.intersect1d(a.leaves, b.leaves)) / max(1, len(b.leaves))
        for a, b in zip(outcomes, plain, strict=True)
    ]
    return {
        "k": setting.width,
        "prefix": setting.prefix,
        "way": way.name,
        "max_rows": way.setting.max_rows,
        "ms": median([one.ms for one in outcomes]),
        "mean_ms": float(np.mean([one.ms for one in outcomes])),
        "plain_ms": median([one.ms for one in plain]),
        "speedup": float(np.median(ratios)),
        "speedup_95": _interval(ratios),
        "speedup_of_means": float(
            np.mean([one.ms for one in plain]) / np.mean([one.ms for one in outcomes])
        ),
        "passes": float(np.mean([one.passes for one in outcomes])),
        "rows": float(np.mean([one.rows for one in outcomes])),
        "draft_ms": float(np.mean([one.draft_ms for one in outcomes])),
        "choose_ms": float(np.mean([one.choose_ms for one in outcomes])),
        "first_tree_to_level": float(depth_reached[depth_reached > 0].mean())
        if (depth_reached > 0).any()
        else 0.0,
        "picks": dict(way.picks),
        "identical": int(np.sum(same)),
        "mean_overlap": float(np.mean(common)),
        "requests": len(outcomes),
    }


def _interval(ratios: np.ndarray) -> list[float]:
    """95 % bootstrap interval of the median of paired ratios."""
    rng = np.random.default_rng(0)
    drawn = rng.choice(ratios, (_RESAMPLES, len(ratios)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return [float(low), float(high)]
