"""Passes, rows and milliseconds of the three modes at equal K, with and without drafts.

    python benchmarks/sampling_modes.py BUNDLE --dataset DATASET --out benchmarks/results/modes.json

Every mode answers the same requests: the exact ones with the union of all drafters under a row
budget, the relaxed one with N prefixes drawn per level from their mixture: at most W + (L - 1) N
rows; the exact ones get the same budget. Times are compared with the same mode without drafts.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from specbeam.benchmark.conditions import conditions, median
from specbeam.benchmark.drafters.cases import DraftCase, make_cases
from specbeam.benchmark.drafters.models import DraftModels
from specbeam.benchmark.settings import CACHED, Setting, sources_of
from specbeam.benchmark.speculation import Outcome, Speculation, hold_prompt
from specbeam.bundle import load_bundle
from specbeam.cli.bench import load_users, numbers
from specbeam.decoding.selection import BY_SCORE, Selection
from specbeam.drafting.ways import PLAIN, Flow, Way

MODES = {
    "exact top-K": BY_SCORE,
    "exact sampling": Selection("GUMBEL"),
    "relaxed sampling": Selection("RELAXED"),
}


def main() -> None:
    """Measure and write the table."""
    options = _options()
    bundle = load_bundle(options.bundle)
    histories = [user for user in load_users(bundle, options.dataset) if len(user)]
    widest = max(k * (1 + (bundle.trie.depth - 1) * f) for k in options.k for f in options.factors)
    models = DraftModels.load(bundle, threads=options.threads, dtype="fp32", max_rows=widest)
    chosen = np.random.default_rng(0).permutation(len(histories))[: options.users].tolist()
    cases = make_cases(models.target, bundle, histories, chosen, print, with_pool=True)
    # The pool tells laws of the bundle's own convention, which the modes share after normalising.
    cells = []
    for width in options.k:
        for factor in options.factors:
            cells += _measure(models, cases, width, factor)
            for cell in cells[-len(MODES) :]:
                print(
                    f"K = {cell['k']}, N = {cell['draft_width']}, {cell['mode']}: "
                    f"{cell['passes']:.2f} passes, {cell['rows']:.0f} rows, {cell['ms']:.1f} ms, "
                    f"{cell['speedup']:.2f} x plain"
                )
    result = {
        "what": "three modes at equal K and rows",
        "conditions": conditions(
            bundle=bundle.manifest.name,
            users=len(cases),
            threads=options.threads,
            prefix=CACHED,
            flow="root-first",
        ),
        "cells": cells,
    }
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _measure(
    models: DraftModels, cases: Sequence[DraftCase], width: int, factor: int
) -> list[dict[str, Any]]:
    rows = width * (1 + (models.bundle.trie.depth - 1) * factor)
    sources = sources_of(models.names())
    order = random.Random(0)
    found: dict[tuple[str, bool], list[Outcome]] = {
        (mode, drafts): [] for mode in MODES for drafts in (False, True)
    }
    for seed, case in enumerate(cases):
        hold_prompt(models, case)
        for mode, drafts in order.sample(list(found), len(found)):
            selection = MODES[mode]
            if selection.draws:
                selection = replace(selection, seed=seed)
            setting = Setting(width, CACHED, rows, sources, selection, width * factor)
            way = Way(Flow.ROOT_FIRST, use_model=True) if drafts else PLAIN
            found[mode, drafts].append(Speculation(models, case, setting).run(way))
    return [_cell(mode, width, factor, found[mode, True], found[mode, False]) for mode in MODES]


def _cell(
    mode: str, width: int, factor: int, drafted: Sequence[Outcome], plain: Sequence[Outcome]
) -> dict[str, Any]:
    same = [np.array_equal(a.leaves, b.leaves) for a, b in zip(drafted, plain, strict=True)]
    return {
        "mode": mode,
        "k": width,
        "draft_width": width * factor,
        "passes": float(np.mean([one.passes for one in drafted])),
        "rows": float(np.mean([one.rows for one in drafted])),
        "ms": median([one.ms for one in drafted]),
        "plain_ms": median([one.ms for one in plain]),
        "speedup": median([b.ms / a.ms for a, b in zip(drafted, plain, strict=True)]),
        "one_tree": float(np.mean([one.passes == 2 for one in drafted])),
        "same_items_as_plain": int(np.sum(same)),
        "requests": len(drafted),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--dataset", type=Path, required=True)
    parser.add_argument("--k", type=numbers, default=(5, 10, 20))
    parser.add_argument("--factors", type=numbers, default=(1, 2, 4), help="N / K")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
